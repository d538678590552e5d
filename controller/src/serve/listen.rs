//! Accepts connections and shakes hands, with a bound on both.

use std::io;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

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
pub fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    services: &Services,
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
    let (ready, connections) = mpsc::channel(limits::HANDSHAKES);
    let (tasks, stop) = (services.tasks.clone(), services.stop.clone());
    let shaking = Arc::new(Semaphore::new(limits::HANDSHAKES));
    services.tasks.spawn(async move {
        loop {
            let permit = tokio::select! {
                () = stop.cancelled() => return,
                permit = Arc::clone(&shaking).acquire_owned() => permit,
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (Ok(permit), Ok((stream, peer))) = (permit, accepted) else {
                // Out of descriptors, most likely: wait for some to close instead of spinning.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let (tls, ready, stop) = (tls.clone(), ready.clone(), stop.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    result = shake_hands(stream, tls, permit) => match result {
                        Ok(connection) => drop(ready.send(Ok(connection)).await),
                        Err(error) => tracing::debug!(%peer, %error, "a handshake failed"),
                    },
                }
            });
        }
    });
    ReceiverStream::new(connections)
}

async fn shake_hands(
    stream: TcpStream,
    tls: TlsAcceptor,
    _permit: OwnedSemaphorePermit,
) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    match tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")),
    }
}
