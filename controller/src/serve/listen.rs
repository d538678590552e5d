//! Accepts connections and shakes hands, with a bound on both.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};

use super::Services;
use crate::ca::{Authority, Roots};
use crate::limits;

/// Shakes hands by the roots of the moment.
#[derive(Clone)]
pub struct Acceptor {
    authority: Arc<Authority>,
    names: Vec<rcgen::SanType>,
    made: (Arc<Roots>, TlsAcceptor),
}

impl Acceptor {
    pub fn new(authority: &Arc<Authority>, names: Vec<rcgen::SanType>) -> anyhow::Result<Self> {
        let roots = authority.roots();
        let tls = tls(&roots, &names)?;
        Ok(Self { authority: Arc::clone(authority), names, made: (roots, tls) })
    }

    fn current(&mut self) -> TlsAcceptor {
        let roots = self.authority.roots();
        if !Arc::ptr_eq(&self.made.0, &roots) {
            match tls(&roots, &self.names) {
                Ok(tls) => self.made = (roots, tls),
                Err(error) => tracing::warn!("agents are answered by the roots before the newest: {error:#}"),
            }
        }
        self.made.1.clone()
    }
}

/// A client certificate is verified if there is one: without one a caller can only join.
fn tls(trusted: &Roots, names: &[rcgen::SanType]) -> anyhow::Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for root in trusted.trusted() {
        roots.add(root.certificate.clone()).context("our own root is not a root")?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let (chain, key) = Authority::server(names, trusted)?;
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
    mut acceptor: Acceptor,
    services: &Services,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(limits::HANDSHAKES);
    let (tasks, stop) = (services.tasks.clone(), services.stop.clone());
    let (gate, standing) = (Gate::new(), services.standing.clone());
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
            let (tls, ready, stop) = (acceptor.current(), ready.clone(), stop.clone());
            let lives = if standing.borrow().leads { Lives::LEADERS } else { Lives::OTHERS };
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    result = shake_hands(stream, tls, passes, lives) => match result {
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
    /// Of each address.
    connected: Counts,
    shaking: Counts,
}

/// Given back when they are dropped.
struct Passes {
    connection: OwnedSemaphorePermit,
    place: Place,
    _handshake: OwnedSemaphorePermit,
    _turn: Place,
}

impl Gate {
    fn new() -> Self {
        Self {
            connections: Arc::new(Semaphore::new(limits::CONNECTIONS)),
            handshakes: Arc::new(Semaphore::new(limits::HANDSHAKES)),
            connected: Counts::default(),
            shaking: Counts::default(),
        }
    }

    /// None: the address has all the connections or handshakes that it may have.
    async fn admit(&self, listener: &TcpListener) -> io::Result<Option<(TcpStream, SocketAddr, Passes)>> {
        let connection = Arc::clone(&self.connections).acquire_owned().await.map_err(io::Error::other)?;
        let handshake = Arc::clone(&self.handshakes).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        let place = self.connected.take(peer.ip(), limits::CONNECTIONS_PER_ADDRESS);
        let turn = self.shaking.take(peer.ip(), limits::HANDSHAKES_PER_ADDRESS);
        let (Some(place), Some(turn)) = (place, turn) else { return Ok(None) };
        Ok(Some((stream, peer, Passes { connection, place, _handshake: handshake, _turn: turn })))
    }
}

/// How many places each address has taken; one that has none is not in it.
#[derive(Debug, Clone, Default)]
struct Counts(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of an address's places.
#[derive(Debug)]
struct Place {
    address: IpAddr,
    counts: Counts,
}

impl Counts {
    fn take(&self, address: IpAddr, limit: usize) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = counts.entry(address).or_default();
        if *taken >= limit {
            return None;
        }
        *taken += 1;
        drop(counts);
        Some(Place { address, counts: self.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut taken) = counts.entry(self.address) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

/// How long connections live.
#[derive(Debug, Clone, Copy)]
struct Lives {
    /// One that shows no certificate.
    stranger: Duration,
    /// One of a node. None: as long as both sides want.
    node: Option<Duration>,
    /// One whose caller is sent off.
    rest: Duration,
}

impl Lives {
    const LEADERS: Self = Self { stranger: limits::STRANGER_LIFE, node: None, rest: limits::STANDBY_LIFE };
    const OTHERS: Self = Self { node: Some(limits::STANDBY_LIFE), ..Self::LEADERS };
}

async fn shake_hands(stream: TcpStream, tls: TlsAcceptor, passes: Passes, lives: Lives) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    match tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(result) => Ok(Connection::new(result?, passes.connection, passes.place, lives)),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")),
    }
}

/// Whoever is at the other end of a connection.
#[derive(Clone)]
pub struct Caller {
    tls: TlsConnectInfo<TcpConnectInfo>,
    sent_off: CancellationToken,
}

impl Caller {
    /// What it has shown, verified, leaf first.
    pub fn certificates(&self) -> Option<Arc<Vec<CertificateDer<'static>>>> {
        self.tls.peer_certs()
    }

    /// Its connection ends soon: with time for the answer to what it asks now.
    pub fn send_off(&self) {
        self.sent_off.cancel();
    }
}

/// A connection that counts as one, for its address too, until it is closed.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    sent_off: CancellationToken,
    /// When it ends, whatever the sides want. None: it has ended.
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _pass: OwnedSemaphorePermit,
    _place: Place,
}

impl Connection {
    fn new(stream: TlsStream<TcpStream>, pass: OwnedSemaphorePermit, place: Place, lives: Lives) -> Self {
        let is_stranger = stream.get_ref().1.peer_certificates().is_none_or(<[_]>::is_empty);
        let life = if is_stranger { Some(lives.stranger) } else { lives.node };
        let sent_off = CancellationToken::new();
        let end = end(life, sent_off.clone(), lives.rest);
        Self { stream, sent_off, end: Some(Box::pin(end)), _pass: pass, _place: place }
    }

    fn has_ended(&mut self, context: &mut Context<'_>) -> bool {
        if self.end.as_mut().is_some_and(|end| end.as_mut().poll(context).is_ready()) {
            self.end = None;
        }
        self.end.is_none()
    }
}

async fn end(life: Option<Duration>, sent_off: CancellationToken, rest: Duration) {
    let away = async {
        sent_off.cancelled().await;
        tokio::time::sleep(rest).await;
    };
    let Some(life) = life else { return away.await };
    tokio::select! {
        () = away => {}
        () = tokio::time::sleep(life) => {}
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller { tls: self.stream.connect_info(), sent_off: self.sent_off.clone() }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Whoever serves a connection always reads from it, so this is asked in time.
        if self.has_ended(context) {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "its time is over: it showed no certificate, or another controller leads",
            )));
        }
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
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::ca;
    use crate::trouble::Troubles;

    #[tokio::test]
    async fn one_address_cannot_take_every_handshake() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Gate::new();
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
        assert!(gate.shaking.0.lock().unwrap().is_empty() && gate.connected.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn one_address_cannot_take_every_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Gate::new();
        let (mut crowd, mut connected) = (Vec::new(), Vec::new());
        for _ in 0..limits::CONNECTIONS_PER_ADDRESS {
            crowd.push(TcpStream::connect(address).await.unwrap());
            let (_, _, passes) = gate.admit(&listener).await.unwrap().expect("it has room");
            // Its handshake is over; the connection lives on.
            let Passes { connection, place, .. } = passes;
            connected.push((connection, place));
        }
        crowd.push(TcpStream::connect(address).await.unwrap());
        assert!(gate.admit(&listener).await.unwrap().is_none(), "one more was let in");
        connected.pop();
        crowd.push(TcpStream::connect(address).await.unwrap());
        assert!(gate.admit(&listener).await.unwrap().is_some(), "a place that was given back stayed taken");
    }

    /// A connection to us without a certificate, and the other end of it.
    async fn connection(gate: &Gate, lives: Lives) -> (Connection, tokio_rustls::client::TlsStream<TcpStream>) {
        let state = tempfile::tempdir().unwrap();
        let signed = ca::Lives { workload: limits::WORKLOAD_CERTIFICATE_LIFE, node: limits::NODE_CERTIFICATE_LIFE };
        let (trust_domain, troubles) = ("cluster.local".parse().unwrap(), Troubles::default());
        let opened = ca::open_folder(state.path(), trust_domain, signed, &troubles);
        let trusted = opened.await.unwrap().0.roots();
        let server = tls(&trusted, &[rcgen::SanType::DnsName("localhost".try_into().unwrap())]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(trusted.issuer().certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dial = async {
            let stream = TcpStream::connect(address).await?;
            let name = rustls::pki_types::ServerName::try_from("localhost").map_err(io::Error::other)?;
            tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, stream).await
        };
        let take = async {
            let (stream, _, passes) = gate.admit(&listener).await?.expect("it has room");
            shake_hands(stream, server, passes, lives).await
        };
        let (dialled, taken) = tokio::join!(dial, take);
        (taken.unwrap(), dialled.unwrap())
    }

    #[tokio::test]
    async fn a_connection_without_a_certificate_ends() {
        let gate = Gate::new();
        let lives = Lives { stranger: Duration::from_millis(20), ..Lives::LEADERS };
        let (mut taken, _dialled) = connection(&gate, lives).await;
        let ended = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, taken.read_u8()).await.expect("it stays for ever");
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(taken);
        assert_eq!(gate.connections.available_permits(), limits::CONNECTIONS);
    }

    #[tokio::test]
    async fn a_connection_whose_caller_is_sent_off_ends() {
        let lives = Lives { stranger: Duration::from_hours(1), rest: Duration::from_millis(20), ..Lives::LEADERS };
        let (mut taken, _dialled) = connection(&Gate::new(), lives).await;
        tokio::select! {
            biased;
            ended = taken.read_u8() => panic!("it ended by itself: {ended:?}"),
            () = std::future::ready(()) => {}
        }
        taken.connect_info().send_off();
        let ended = tokio::time::timeout(limits::HANDSHAKE_TIMEOUT, taken.read_u8()).await.expect("it stays for ever");
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
