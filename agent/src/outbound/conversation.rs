//! A downstream connection that carries requests: what all of them have in common, and their serving.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use weft_proto::names::Namespace;

use crate::balance::Outstanding;
use crate::error::{ConnectionError, Side};
use crate::http::engine::{self, Leave, Line, Peer};
use crate::http::pool::{LineKey, OpenLine};
use crate::http::{Request, Response, Version};
use crate::model::{Endpoint, Snapshot, Workload};
use crate::node::pod::{Place, Pod};
use crate::quiet::quietly;
use crate::telemetry::{ConnectionId, ConnectionRecord, Direction, RequestRecord};
use crate::wire::Prefixed;
use crate::worker::Worker;

use super::request;

/// What a request needs to know of the connection that it came on.
pub struct Conversation {
    pub worker: Rc<Worker>,
    pub pod: Arc<Pod>,
    pub id: ConnectionId,
    pub client: Option<SocketAddr>,
    pub source: Option<Arc<Workload>>,
    /// The client's namespace, for consumer routes.
    pub namespace: Option<Namespace>,
    pub asked: SocketAddr,
    pub version: Version,
    /// Made while nobody knew yet that requests would come: the first request travels on it.
    pub seed: RefCell<Option<Seed>>,
    /// Of the pod's budget: an upgraded connection keeps it.
    _place: Place,
}

/// A line that was dialled for the connection as a whole.
pub struct Seed {
    pub endpoint: Endpoint,
    pub outstanding: Outstanding,
    pub key: LineKey,
    pub line: OpenLine,
}

impl Seed {
    pub fn new(endpoint: Endpoint, outstanding: Outstanding, key: LineKey, line: Line, made: ConnectionRecord) -> Self {
        Self {
            endpoint,
            outstanding,
            key,
            line: OpenLine { line, made: Rc::new(made), reused: false, declared: false },
        }
    }
}

impl Conversation {
    pub fn new(
        worker: &Rc<Worker>,
        (pod, place): (&Arc<Pod>, Place),
        record: &ConnectionRecord,
        asked: SocketAddr,
        version: Version,
        seed: Option<Seed>,
    ) -> Self {
        let source = record.source.workload.clone();
        let namespace = source.as_deref().and_then(Workload::namespace);
        Self {
            worker: Rc::clone(worker),
            pod: Arc::clone(pod),
            id: record.id,
            client: record.source.address,
            source,
            namespace,
            asked,
            version,
            seed: RefCell::new(seed),
            _place: place,
        }
    }

    /// The beginning of the record of a request of this connection.
    pub fn record(&self, snapshot: &Snapshot, request: &Request) -> Box<RequestRecord> {
        let mut record = RequestRecord::begin(self.id, Direction::Outbound, snapshot.version.clone());
        record.source.address = self.client;
        record.source.workload.clone_from(&self.source);
        record.read(request);
        record
    }

    /// Answers every request until the client has ended or the agent drains.
    pub async fn hold(self, downstream: Prefixed<TcpStream>) -> Result<(), ConnectionError> {
        let conversation = Rc::new(self);
        let worker = Rc::clone(&conversation.worker);
        let pod = Arc::clone(&conversation.pod);
        let answer = |request: Request| -> std::pin::Pin<Box<dyn Future<Output = Response>>> {
            Box::pin(request::carry(Rc::clone(&conversation), request))
        };
        let drain = quietly(async {
            worker.shared.stopping.cancelled().await;
            Leave::WithNextAnswer
        });
        let serving = engine::serve(conversation.version, Peer::Stranger, downstream, &worker.lines, drain, answer);
        tokio::select! {
            biased;
            served = serving => served.into_result(),
            reason = quietly(worker.cut(&pod)) => Err(ConnectionError::new(Side::Local, reason)),
        }
    }
}
