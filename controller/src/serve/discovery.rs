//! `Discovery`: the state of the mesh at first, differences from then on, to one node's agent.

use std::pin::Pin;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weft_proto::PROTOCOL_VERSION;
use weft_proto::names::NodeName;
use weft_proto::v1::discovery_request::Kind;
use weft_proto::v1::{DiscoveryRequest, DiscoveryResponse, ResourceVersion, discovery_server};

use super::Services;
use crate::authenticate::ProvenNode;
use crate::limits;
use crate::publish::{Claim, Messages, Subscription};

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
    let (subscription, first) = tokio::select! {
        greeted = greet(&services, proven.node(), &mut requests, answers) => greeted?,
        () = answers.closed() => return Ok(()),
    };
    let age = age(proven);
    tokio::select! {
        sent = send(&services, proven.node(), subscription, first, answers) => sent,
        // The agent comes back, perhaps to another replica; it says what it holds, so nothing is sent twice.
        () = tokio::time::sleep(age) => Ok(()),
        ended = drain(&mut requests, answers) => ended,
    }
}

/// What an agent holds may be another mesh than ours, all of it by name, and after a restart all of them come: a few at a
/// time are heard.
async fn greet(
    services: &Services,
    node: &NodeName,
    requests: &mut Streaming<DiscoveryRequest>,
    answers: &Answers,
) -> Result<(Subscription, Messages), Status> {
    let _place = services.hellos.place(node)?;
    // Before that nothing is known that it could be compared with, and it waits unread.
    let mut published = services.mesh.published.clone();
    let known = published.wait_for(|published| published.generation > 0).await;
    known.map_err(|_| Status::unavailable("the controller ends"))?;
    let _turn = services.hellos.turn().await?;
    let Some(Kind::Hello(hello)) = said(requests, "no Hello came").await? else {
        return Err(Status::invalid_argument("the first message must be a Hello"));
    };
    // One version behind is served, and one ahead: it will nack what it must.
    if hello.protocol_version == 0 || hello.protocol_version.abs_diff(PROTOCOL_VERSION) > 1 {
        return Err(Status::failed_precondition(format!(
            "protocol version {} is not served; this controller speaks {PROTOCOL_VERSION}",
            hello.protocol_version
        )));
    }
    let newest = services.mesh.published.borrow().clone();
    let claim = Claim::new(node.clone(), &hello.shards, &newest).map_err(Status::invalid_argument)?;
    let named = ask(&claim, requests, answers).await?;
    tracing::info!(%node, unclear = claim.unclear().len(), named = named.len(), "an agent subscribed");
    Ok(claim.settle(named))
}

/// What the agent holds of the shards that are unclear, which are few unless it is long that it was here.
async fn ask(
    claim: &Claim,
    requests: &mut Streaming<DiscoveryRequest>,
    answers: &Answers,
) -> Result<Vec<ResourceVersion>, Status> {
    if claim.unclear().is_empty() {
        return Ok(Vec::new());
    }
    let question = DiscoveryResponse { unclear: claim.unclear().to_vec(), ..DiscoveryResponse::default() };
    answers.send(Ok(question)).await.map_err(|_| Status::cancelled("the agent is gone"))?;
    let Some(Kind::Held(held)) = said(requests, "the agent does not say what it holds").await? else {
        return Err(Status::invalid_argument("the answer to what is unclear must be a Held"));
    };
    if held.resources.len() > limits::HELD_RESOURCES {
        return Err(Status::invalid_argument("the agent names more resources than a mesh has"));
    }
    Ok(held.resources)
}

/// None: the agent has ended its half, or speaks of something that we do not know.
async fn said(requests: &mut Streaming<DiscoveryRequest>, silence: &str) -> Result<Option<Kind>, Status> {
    let message = tokio::time::timeout(limits::HELLO_TIMEOUT, requests.message()).await;
    let message = message.map_err(|_| Status::deadline_exceeded(silence))??;
    Ok(message.and_then(|request| request.kind))
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
    mut messages: Messages,
    answers: &Answers,
) -> Result<(), Status> {
    let mut published = services.mesh.published.clone();
    loop {
        for message in messages {
            if answers.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
        let reached = subscription.held();
        let offered = services.mesh.agents().offer(node, reached.snapshot(node), reached.generation, Instant::now());
        if offered {
            services.mesh.announce_report();
        }
        if published.changed().await.is_err() {
            return Ok(());
        }
        messages = subscription.advance(&published.borrow_and_update());
    }
}

/// Nothing follows what was asked for: what comes is read and dropped. An agent that closes its own half still listens.
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
