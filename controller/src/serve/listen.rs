//! Accepts connections and shakes hands, with a bound on both.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use anyhow::Context as _;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};

use super::Services;
use crate::ca::Authority;
use crate::limits;

/// A client certificate is verified if there is one: without one a caller can only join.
pub fn tls(authority: &Authority, names: &[rcgen::SanType]) -> anyhow::Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.root().clone()).context("our own root is not a root")?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let (chain, key) = authority.server(names)?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed connection would carry a certificate that nobody verified again.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Connections that have shaken hands, until `services.stop`.
pub fn accept(listener: TcpListener, tls: TlsAcceptor, services: &Services) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(limits::HANDSHAKES);
    let (tasks, stop) = (services.tasks.clone(), services.stop.clone());
    let gate = Gate {
        connections: Arc::new(Semaphore::new(limits::CONNECTIONS)),
        handshakes: Arc::new(Semaphore::new(limits::HANDSHAKES)),
        addresses: Arc::default(),
    };
    services.tasks.spawn(async move {
        loop {
            let admitted = tokio::select! {
                () = stop.cancelled() => return,
                admitted = gate.admit(&listener) => admitted,
            };
            let (stream, peer, passes) = match admitted {
                Ok(Some(admitted)) => admitted,
                // One address has too many: its connection is closed by being dropped.
                Ok(None) => continue,
                Err(error) => {
                    // Out of descriptors, most likely: wait for some to close instead of spinning.
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (tls, ready, stop) = (tls.clone(), ready.clone(), stop.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    result = shake_hands(stream, tls, passes) => match result {
                        Ok(connection) => drop(ready.send(Ok(connection)).await),
                        Err(error) => tracing::debug!(%peer, %error, "a handshake failed"),
                    },
                }
            });
        }
    });
    ReceiverStream::new(connections)
}

/// Who may come in, and how many at once.
struct Gate {
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// Given back when they are dropped.
struct Passes {
    connection: OwnedSemaphorePermit,
    _handshake: OwnedSemaphorePermit,
    _turn: Turn,
}

/// One of an address's handshakes.
struct Turn {
    address: IpAddr,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Gate {
    /// None: the address has all the handshakes that it may have.
    async fn admit(&self, listener: &TcpListener) -> io::Result<Option<(TcpStream, SocketAddr, Passes)>> {
        let connection = Arc::clone(&self.connections).acquire_owned().await.map_err(io::Error::other)?;
        let handshake = Arc::clone(&self.handshakes).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        let turn = self.turn(peer.ip());
        Ok(turn.map(|turn| (stream, peer, Passes { connection, _handshake: handshake, _turn: turn })))
    }

    fn turn(&self, address: IpAddr) -> Option<Turn> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let running = addresses.entry(address).or_default();
        if *running >= limits::HANDSHAKES_PER_ADDRESS {
            return None;
        }
        *running += 1;
        drop(addresses);
        Some(Turn { address, addresses: Arc::clone(&self.addresses) })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut running) = addresses.entry(self.address) {
            *running.get_mut() -= 1;
            if *running.get() == 0 {
                running.remove();
            }
        }
    }
}

async fn shake_hands(stream: TcpStream, tls: TlsAcceptor, passes: Passes) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    match tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(result) => Ok(Connection { stream: result?, _pass: passes.connection }),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")),
    }
}

/// A connection that counts as one until it is closed.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    _pass: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TlsConnectInfo<TcpConnectInfo>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_cannot_take_every_handshake() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Gate {
            connections: Arc::new(Semaphore::new(limits::CONNECTIONS)),
            handshakes: Arc::new(Semaphore::new(limits::HANDSHAKES)),
            addresses: Arc::default(),
        };
        let mut crowd = Vec::new();
        let mut admitted = Vec::new();
        for _ in 0..=limits::HANDSHAKES_PER_ADDRESS {
            crowd.push(TcpStream::connect(address).await.unwrap());
            admitted.push(gate.admit(&listener).await.unwrap());
        }
        assert!(admitted.pop().unwrap().is_none(), "one more was let in");
        assert!(admitted.iter().all(Option::is_some));
        admitted.pop();
        crowd.push(TcpStream::connect(address).await.unwrap());
        assert!(gate.admit(&listener).await.unwrap().is_some(), "a place that was given back stayed taken");
        drop(admitted);
        assert_eq!(gate.handshakes.available_permits(), limits::HANDSHAKES);
        assert!(gate.addresses.lock().unwrap().is_empty());
    }
}
