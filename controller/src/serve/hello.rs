//! Who may say at this moment what it holds: one stream of each node waits, and a few are read.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::Status;
use weft_proto::names::NodeName;

use crate::limits;

#[derive(Debug, Clone)]
pub struct Hellos {
    turns: Arc<Semaphore>,
    nodes: Arc<Mutex<BTreeSet<NodeName>>>,
}

/// Of a node that waits or is read; given back when it is dropped.
#[derive(Debug)]
pub struct Place<'a> {
    hellos: &'a Hellos,
    node: NodeName,
}

impl Default for Hellos {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(limits::HELLOS)), nodes: Arc::default() }
    }
}

impl Hellos {
    /// Refused while another stream of the node has its place: nobody makes others wait by asking often.
    pub fn place(&self, node: &NodeName) -> Result<Place<'_>, Status> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.insert(node.clone()) {
            return Ok(Place { hellos: self, node: node.clone() });
        }
        Err(Status::unavailable("another stream of the node has not said yet what it holds; try again"))
    }

    pub async fn turn(&self) -> Result<SemaphorePermit<'_>, Status> {
        self.turns.acquire().await.map_err(|_| Status::unavailable("the controller ends"))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.hellos.nodes.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_waits_once_at_a_time() {
        let (hellos, one, two) = (Hellos::default(), "one".parse().unwrap(), "two".parse().unwrap());
        let place = hellos.place(&one).unwrap();
        assert!(hellos.place(&one).is_err() && hellos.place(&two).is_ok());
        drop(place);
        assert!(hellos.place(&one).is_ok());
    }
}
