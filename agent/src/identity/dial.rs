//! The controller's replicas by their one name: every connection begins with the next of them.
//!
//! One leads, and the others send agents away. The system's order of addresses is always the same (RFC 6724 puts the
//! nearest first), so an agent beside a replica that does not lead would come back to it for ever.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::net::lookup_host;
use tower_service::Service;

pub type Dialer = HttpConnector<Replicas>;

#[must_use]
pub fn dialer() -> Dialer {
    let mut dialer = HttpConnector::new_with_resolver(Replicas::default());
    // TLS is laid around it.
    dialer.enforce_http(false);
    dialer.set_nodelay(true);
    dialer
}

/// The addresses of a name, in turns.
#[derive(Debug, Clone)]
pub struct Replicas {
    turn: Arc<AtomicUsize>,
}

impl Default for Replicas {
    /// Agents begin anywhere, so that they do not all come to one first.
    fn default() -> Self {
        Self { turn: Arc::new(AtomicUsize::new(rand::random_range(0..usize::MAX / 2))) }
    }
}

impl Replicas {
    fn next(&self, mut found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        // Answers come in an order of chance, or of nearness.
        found.sort();
        let begin = turn.checked_rem(found.len()).unwrap_or_default();
        found.rotate_left(begin);
        found
    }
}

impl Service<Name> for Replicas {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let replicas = self.clone();
        Box::pin(async move {
            // The port is the connector's business.
            let found = lookup_host((name.as_str(), 0)).await?.collect();
            Ok(replicas.next(found).into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_begins_with_the_next_replica_in_whatever_order_they_are_found() {
        let address = |number: u8| SocketAddr::from(([10, 91, number, 9], 0));
        let replicas = Replicas::default();
        let found = [[1, 2, 3], [3, 1, 2], [2, 3, 1]];
        let mut first: Vec<_> = found.iter().map(|order| replicas.next(order.map(address).to_vec())[0]).collect();
        first.sort();
        assert_eq!(first, [1, 2, 3].map(address));
        assert_eq!(replicas.next(Vec::new()), []);
    }
}
