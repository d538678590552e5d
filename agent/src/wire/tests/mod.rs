//! Real TLS over loopback sockets, between agents that are honest and agents that are not.

mod handshake;
mod preamble;
mod resumption;
mod sniff;
mod strangers;

use tokio::net::{TcpListener, TcpStream};
use weft_proto::names::Identity;

use super::client::{self, ClientTls};
use super::server::{self, ServerTls};
use super::{Prefixed, Sniffed, Sniffer};
use crate::error::ConnectionError;
use crate::identity::Credential;
use crate::tls::fixtures::{DB, WEB, identity, uid};

/// Two ends of one loopback connection: the one that dialled, the one that accepted.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap());
    let (dialled, accepted) = tokio::join!(dialled, listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

type Met = (Result<ClientTls, ConnectionError>, Result<(ServerTls, Identity), ConnectionError>);

/// The handshake between a source and a destination that is expected to be `expected`.
async fn meet_as(source: &Credential, destination: &Credential, expected: &str) -> Met {
    let (dialled, accepted) = sockets().await;
    let expected = identity(expected);
    let workload = uid("destination");
    let source_side = Box::pin(finished(client::handshake(dialled, source, &expected, &workload)));
    tokio::join!(source_side, Box::pin(accept(accepted, destination)))
}

/// A handshake whose last flight does not wait for a preamble.
async fn finished(
    handshake: impl Future<Output = Result<ClientTls, client::Failure>>,
) -> Result<ClientTls, ConnectionError> {
    let mut source = handshake.await.map_err(|failure| failure.error)?;
    source.get_mut().0.send_rest().await;
    Ok(source)
}

/// As `meet_as`, with the identities that the fixtures give.
async fn meet(source: &Credential, destination: &Credential) -> Met {
    meet_as(source, destination, DB).await
}

async fn accept(stream: TcpStream, credential: &Credential) -> Result<(ServerTls, Identity), ConnectionError> {
    let mut sniffer = Sniffer::default();
    match sniffer.sniff(&stream).await? {
        Sniffed::MeshTls(bytes) => server::handshake(Prefixed::new(bytes, stream), credential).await,
        other @ (Sniffed::Plaintext(_) | Sniffed::Closed) => panic!("the source was taken for {other:?}"),
    }
}

/// A pair that has met.
async fn pair(source: &Credential, destination: &Credential) -> (ClientTls, ServerTls) {
    let (source, destination) = meet(source, destination).await;
    let (destination, proved) = destination.unwrap();
    assert_eq!(proved, identity(WEB));
    (source.unwrap(), destination)
}
