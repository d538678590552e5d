//! `Discovery`: the state of the mesh at first, differences from then on, to one node's agent.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weft_proto::PROTOCOL_VERSION;
use weft_proto::names::NodeName;
use weft_proto::v1::{DiscoveryRequest, DiscoveryResponse, Hello, discovery_request, discovery_server};

use super::Services;
use crate::authenticate::ProvenNode;
use crate::limits;
use crate::publish::{Published, Subscription};

type Answers = mpsc::Sender<Result<DiscoveryResponse, Status>>;

#[tonic::async_trait]
impl discovery_server::Discovery for Services {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let proven = self.proven(&request)?;
        self.leads()?;
        let requests = request.into_inner();
        let (answers, stream) = mpsc::channel(limits::MESSAGES_IN_FLIGHT);
        let services = self.clone();
        // The agent's first message may come after our headers: it is read by the task.
        self.tasks.spawn(async move {
            let stop = services.stop.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                ended = converse(services, &proven, requests, &answers) => if let Err(status) = ended {
                    tracing::warn!(node = %proven.node(), reason = status.message(), "a discovery stream was ended");
                    drop(answers.send(Err(status)).await);
                },
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

async fn converse(
    services: Services,
    proven: &ProvenNode,
    mut requests: Streaming<DiscoveryRequest>,
    answers: &Answers,
) -> Result<(), Status> {
    let subscription = tokio::select! {
        greeted = greet(&services, proven.node(), &mut requests) => greeted?,
        () = answers.closed() => return Ok(()),
    };
    let age = age(proven);
    tokio::select! {
        sent = send(&services, proven.node(), subscription, answers) => sent,
        // The agent comes back, perhaps to another replica; it says what it holds, so nothing is sent twice.
        () = tokio::time::sleep(age) => Ok(()),
        ended = drain(&mut requests, answers) => ended,
    }
}

/// What an agent says that it holds is large, and after a restart all of them say it: a few at a time are heard.
async fn greet(
    services: &Services,
    node: &NodeName,
    requests: &mut Streaming<DiscoveryRequest>,
) -> Result<Subscription, Status> {
    let _place = services.hellos.place(node)?;
    // Before that nothing is known that it could be compared with, and it waits unread.
    let mut published = services.mesh.published.clone();
    let known = published.wait_for(|published| published.generation > 0).await;
    known.map_err(|_| Status::unavailable("the controller ends"))?;
    let _turn = services.hellos.turn().await?;
    let first = tokio::time::timeout(limits::HELLO_TIMEOUT, requests.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no Hello came"))??;
    let Some(discovery_request::Kind::Hello(hello)) = first.and_then(|request| request.kind) else {
        return Err(Status::invalid_argument("the first message must be a Hello"));
    };
    let newest = services.mesh.published.borrow().clone();
    subscribe(node, hello, &newest)
}

fn subscribe(node: &NodeName, hello: Hello, newest: &Arc<Published>) -> Result<Subscription, Status> {
    // One version behind is served, and one ahead: it will nack what it must.
    if hello.protocol_version == 0 || hello.protocol_version.abs_diff(PROTOCOL_VERSION) > 1 {
        return Err(Status::failed_precondition(format!(
            "protocol version {} is not served; this controller speaks {PROTOCOL_VERSION}",
            hello.protocol_version
        )));
    }
    if hello.held.len() > limits::HELD_RESOURCES {
        return Err(Status::invalid_argument("the Hello names more resources than a mesh has"));
    }
    tracing::info!(%node, held = hello.held.len(), "an agent subscribed");
    Ok(Subscription::new(node.clone(), hello.held, newest))
}

/// Between half an hour and an hour, and never longer than the certificate that opened the stream.
fn age(proven: &ProvenNode) -> Duration {
    let jittered = rand::random_range(limits::STREAM_AGE_MINIMUM..limits::STREAM_AGE_MAXIMUM);
    let left = proven.until() - OffsetDateTime::now_utc();
    jittered.min(Duration::try_from(left).unwrap_or(Duration::ZERO))
}

async fn send(
    services: &Services,
    node: &NodeName,
    mut subscription: Subscription,
    answers: &Answers,
) -> Result<(), Status> {
    let mut published = services.mesh.published.clone();
    loop {
        let newest = published.borrow_and_update().clone();
        // Before the first translation nothing is known; an empty answer would take everything away.
        if newest.generation > 0 {
            for message in subscription.advance(&newest) {
                if answers.send(Ok(message)).await.is_err() {
                    return Ok(());
                }
            }
            let offered = services.mesh.agents().offer(node, newest.snapshot(node), newest.generation, Instant::now());
            if offered {
                services.mesh.announce_report();
            }
        }
        if published.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Nothing follows a Hello: what comes is read and dropped. An agent that closes its own half still listens.
async fn drain(requests: &mut Streaming<DiscoveryRequest>, answers: &Answers) -> Result<(), Status> {
    loop {
        match requests.message().await {
            Ok(Some(_)) => {}
            Ok(None) => {
                answers.closed().await;
                return Ok(());
            }
            Err(_) => return Ok(()),
        }
    }
}
