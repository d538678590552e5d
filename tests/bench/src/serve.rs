//! The servers at the other end of a measurement: one process, one thread, a port for each kind.

use std::io::Write as _;
use std::net::{Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use clap::Args;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinSet, LocalSet};

use crate::message;

/// Bursts of new connections wait here; the kernel caps it by `net.core.somaxconn`.
const BACKLOG: u32 = 4096;
/// One read of an echo: above the exchanges that are measured, and small enough for thousands of connections.
const ECHO_PIECE: usize = 4 << 10;
/// One read or write of bulk.
const BULK_PIECE: usize = 128 << 10;
/// What the greeter says.
const GREETING: &[u8] = b"220 ready when you are\r\n";
/// The head of every HTTP answer, up to its length.
const GOOD: &str = "HTTP/1.1 200 OK\r\nserver: weft-bench\r\ncontent-type: application/octet-stream\r\n";

/// Which servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Servers {
    /// Sends back what comes, on this port.
    #[arg(long)]
    pub echo: Option<u16>,
    /// Speaks first, then sends back what comes.
    #[arg(long)]
    pub greet: Option<u16>,
    /// Takes everything and tells in the end how much it was.
    #[arg(long)]
    pub sink: Option<u16>,
    /// Sends until the client leaves.
    #[arg(long)]
    pub source: Option<u16>,
    /// Answers each HTTP/1.1 request with its own body.
    #[arg(long)]
    pub http: Option<u16>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Echo,
    Greet,
    Sink,
    Source,
    Http,
}

impl Servers {
    fn ports(&self) -> Vec<(Kind, u16)> {
        let all = [
            (Kind::Echo, self.echo),
            (Kind::Greet, self.greet),
            (Kind::Sink, self.sink),
            (Kind::Source, self.source),
            (Kind::Http, self.http),
        ];
        all.into_iter().filter_map(|(kind, port)| Some((kind, port?))).collect()
    }
}

/// Serves until the process is ended.
pub fn run(servers: &Servers) -> Result<()> {
    ensure!(!servers.ports().is_empty(), "name at least one of --echo, --greet, --sink, --source and --http");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    runtime.block_on(tasks.run_until(async {
        let mut accepting = JoinSet::new();
        for (kind, port) in servers.ports() {
            let listener = listen(port).with_context(|| format!("cannot listen on port {port}"))?;
            accepting.spawn_local(accept(listener, kind));
        }
        while let Some(ended) = accepting.join_next().await {
            ended??;
        }
        Ok(())
    }))
}

fn listen(port: u16) -> Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    socket.set_reuseaddr(true)?;
    SockRef::from(&socket).set_only_v6(false)?;
    socket.bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))?;
    Ok(socket.listen(BACKLOG)?)
}

async fn accept(listener: TcpListener, kind: Kind) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // The generator tells of a connection that breaks; both ends would count it twice.
        connections.spawn_local(async move { serve(stream, kind).await.ok() });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, kind: Kind) -> std::io::Result<()> {
    match kind {
        Kind::Echo => echo(&mut stream).await,
        Kind::Greet => {
            stream.write_all(GREETING).await?;
            echo(&mut stream).await
        }
        Kind::Sink => sink(&mut stream).await,
        Kind::Source => source(&mut stream).await,
        Kind::Http => answer(&mut stream).await,
    }
}

async fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut piece = vec![0; ECHO_PIECE];
    loop {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&piece[..count]).await?;
    }
}

async fn sink(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut piece = vec![0; BULK_PIECE];
    let mut arrived = 0;
    loop {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            stream.write_u64(arrived).await?;
            return stream.shutdown().await;
        }
        arrived += count as u64;
    }
}

async fn source(stream: &mut TcpStream) -> std::io::Result<()> {
    let piece = vec![0x5a; BULK_PIECE];
    loop {
        stream.write_all(&piece).await?;
    }
}

async fn answer(stream: &mut TcpStream) -> std::io::Result<()> {
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    while let Some(message) = message::read(stream, &mut request).await? {
        let body = &request[message.body];
        answer.clear();
        write!(answer, "{GOOD}content-length: {}\r\n\r\n", body.len())?;
        answer.extend_from_slice(body);
        stream.write_all(&answer).await?;
    }
    Ok(())
}
