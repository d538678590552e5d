//! The servers: one task per connection on one thread.

use std::time::Duration;

use anyhow::Result;
use socket2::SockRef;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::{everywhere, print};

/// The listen queue: bursts of thousands are part of the tests.
const BACKLOG: u32 = 4096;

fn listen(port: u16) -> Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v6()?;
    socket.set_reuseaddr(true)?;
    SockRef::from(&socket).set_only_v6(false)?;
    socket.bind(everywhere(port))?;
    Ok(socket.listen(BACKLOG)?)
}

/// Takes connections for ever and gives each to a task of its own.
pub async fn serve<F>(port: u16, each: impl Fn(TcpStream) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + 'static,
{
    let listener = listen(port)?;
    let tasks = tokio::task::LocalSet::new();
    let mut connections = JoinSet::new();
    tasks
        .run_until(async {
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let work = each(stream);
                // A client that leaves early is part of the tests; the ones that care look at their own side.
                connections.spawn_local(async move { work.await.ok() });
                while connections.try_join_next().is_some() {}
            }
        })
        .await
}

pub async fn echo(port: u16) -> Result<()> {
    serve(port, |stream| async move { echo_back(stream).await }).await
}

async fn echo_back(mut stream: TcpStream) -> Result<()> {
    let (mut from, mut to) = stream.split();
    let mut bytes = vec![0; 4096];
    loop {
        let count = from.read(&mut bytes).await?;
        if count == 0 {
            return Ok(to.shutdown().await?);
        }
        to.write_all(&bytes[..count]).await?;
    }
}

pub async fn greet(port: u16, banner: &str) -> Result<()> {
    let banner = format!("{banner}\n");
    serve(port, move |mut stream| {
        let banner = banner.clone();
        async move {
            stream.write_all(banner.as_bytes()).await?;
            echo_back(stream).await
        }
    })
    .await
}

pub async fn reset(port: u16) -> Result<()> {
    serve(port, |mut stream| async move {
        stream.read_u8().await?;
        // A linger of zero turns the close into a reset.
        Ok(SockRef::from(&stream).set_linger(Some(Duration::ZERO))?)
    })
    .await
}

pub async fn tally(port: u16) -> Result<()> {
    serve(port, |mut stream| async move {
        let received = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        stream.write_all(format!("{received} bytes came\n").as_bytes()).await?;
        Ok(())
    })
    .await
}

pub async fn farewell(port: u16) -> Result<()> {
    serve(port, |mut stream| async move {
        stream.write_all(b"goodbye\n").await?;
        stream.shutdown().await?;
        let mut bytes = vec![0; 4096];
        let mut received = 0;
        let end = loop {
            match stream.read(&mut bytes).await {
                Ok(0) => break "closed".to_owned(),
                Ok(count) => received += count,
                Err(error) => break format!("{:?}", error.kind()),
            }
        };
        print(&serde_json::json!({"event": "end", "bytes": received, "end": end}));
        Ok(())
    })
    .await
}

pub async fn identify(port: u16, name: &str) -> Result<()> {
    let name = name.to_owned();
    serve(port, move |stream| answer(stream, name.clone())).await
}

async fn answer(stream: TcpStream, name: String) -> Result<()> {
    let peer = stream.peer_addr()?;
    let local = stream.local_addr()?;
    let client = peer.ip().to_canonical();
    print(&serde_json::json!({"event": "accepted", "client": client, "port": peer.port()}));
    let mut stream = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if stream.read_line(&mut request).await? == 0 {
            return Ok(());
        }
        let mut close = request.contains("HTTP/1.0");
        loop {
            let mut header = String::new();
            if stream.read_line(&mut header).await? <= 2 {
                break;
            }
            close |= header.eq_ignore_ascii_case("connection: close\r\n");
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        let local = local.ip().to_canonical();
        let body = serde_json::json!({"name": name, "client": client, "local": local, "path": path}).to_string();
        let length = body.len() + 1;
        let kept = if close { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: {kept}\r\n\r\n"
        );
        stream.get_mut().write_all(format!("{head}{body}\n").as_bytes()).await?;
        if close {
            return Ok(stream.get_mut().shutdown().await?);
        }
    }
}
