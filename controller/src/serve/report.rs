//! `Report`: what a node's agent says, and the lease that its silence ends.

use std::pin::Pin;
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weft_proto::v1::{AgentReport, ReportResponse, agent_report, report_server};

use super::Services;
use crate::authenticate::ProvenNode;
use crate::leader::Standing;
use crate::limits;
use crate::mesh::Mesh;

type Answers = mpsc::Sender<Result<ReportResponse, Status>>;

#[tonic::async_trait]
impl report_server::Report for Services {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<ReportResponse, Status>> + Send>>;

    async fn stream(&self, request: Request<Streaming<AgentReport>>) -> Result<Response<Self::StreamStream>, Status> {
        let proven = self.proven(&request)?;
        self.leads()?;
        let reports = request.into_inner();
        let (answers, stream) = mpsc::channel(limits::MESSAGES_IN_FLIGHT);
        let services = self.clone();
        self.tasks.spawn(async move {
            let stop = services.stop.clone();
            let until = Duration::try_from(proven.until() - OffsetDateTime::now_utc()).unwrap_or(Duration::ZERO);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(until) => {}
                ended = listen(&services, &proven, reports, &answers) => if let Err(status) = ended {
                    tracing::debug!(node = %proven.node(), reason = status.message(), "a report stream ended");
                    drop(answers.send(Err(status)).await);
                },
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// Silence counts while agents may speak to this controller, which is while it leads.
pub async fn judge(mesh: Mesh, mut standing: watch::Receiver<Standing>, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        if standing.borrow_and_update().leads {
            mesh.agents().resume(Instant::now());
        } else {
            mesh.agents().suspend();
        }
        mesh.announce_report();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = standing.changed() => if changed.is_err() { break },
        }
    }
    // Nobody is there who could say anything else: it is the only controller.
    stop.cancelled().await;
    Ok(())
}

async fn listen(
    services: &Services,
    proven: &ProvenNode,
    mut reports: Streaming<AgentReport>,
    answers: &Answers,
) -> Result<(), Status> {
    services.mesh.agents().begin(proven.node(), Instant::now());
    while let Some(report) = reports.message().await? {
        let Some(kind) = report.kind else { continue };
        let heartbeat = matches!(kind, agent_report::Kind::Heartbeat(_));
        log(proven, &kind);
        let heard = services.mesh.agents().hear(proven.node(), kind, Instant::now());
        if heard.map_err(Status::resource_exhausted)? {
            services.mesh.announce_report();
        }
        if heartbeat {
            let lease = services.mesh.agents().lease();
            let lease_ms = u32::try_from(lease.as_millis()).unwrap_or(u32::MAX);
            if answers.send(Ok(ReportResponse { lease_ms })).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn log(proven: &ProvenNode, report: &agent_report::Kind) {
    let node = proven.node();
    match report {
        agent_report::Kind::Heartbeat(_) => {}
        agent_report::Kind::Enrolled(enrolled) => {
            tracing::info!(%node, workloads = enrolled.workloads.len(), failed = enrolled.failed.len(), "an agent reported");
            for failed in enrolled.failed.iter().take(limits::DEFECTS_PER_OBJECT) {
                tracing::warn!(%node, workload = failed.workload, reason = failed.reason, "a workload could not be enrolled");
            }
        }
        agent_report::Kind::Acknowledgement(acknowledgement) => {
            tracing::debug!(%node, snapshot = acknowledgement.snapshot, "an agent decides on a snapshot");
            for nack in acknowledgement.nacks.iter().take(limits::DEFECTS_PER_OBJECT) {
                tracing::warn!(%node, resource = nack.resource, reason = nack.reason, "an agent could not apply a resource");
            }
        }
    }
}
