//! `Identity`: a token or a node certificate becomes a node certificate, and a workload's request its certificate.

use std::time::Instant;

use time::OffsetDateTime;
use tonic::{Request, Response, Status};
use weft_proto::names::{Identity, WorkloadUid};
use weft_proto::v1::{Certificate, IssueRequest, JoinRequest, identity_server};

use super::{Services, refused};
use crate::authenticate::{self, FirstProof, ProvenNode, Unproven};
use crate::ca::SignError;
use crate::object::Pod;
use crate::store::Objects;
use crate::text::shortened;

#[tonic::async_trait]
impl identity_server::Identity for Services {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<Certificate>, Status> {
        let proven = self.proven(&request);
        let request = request.into_inner();
        let proven = if request.token.is_empty() {
            if let FirstProof::PodToken(_) = &self.first_proof {
                return Err(refused(Unproven::NoToken));
            }
            let proven = proven?;
            if proven.node().as_str() != request.node {
                return Err(Status::permission_denied(format!(
                    "node {} cannot renew the certificate of node {:?}",
                    proven.node(),
                    request.node
                )));
            }
            proven
        } else {
            let (ours, node, token) = (self.trust_domain(), &request.node, &request.token);
            let first = match &self.first_proof {
                FirstProof::JoinToken(tokens) => {
                    authenticate::by_token(ours, tokens, node, token, OffsetDateTime::now_utc())
                }
                FirstProof::PodToken(reviewer) => authenticate::by_review(ours, reviewer, node, token).await,
            };
            first.inspect_err(|reason| self.tell_of_refusal(node, reason)).map_err(refused)?
        };
        let certificate = self.authority.sign_node(&proven, &request.csr_der).map_err(unsigned)?;
        tracing::info!(node = %proven.node(), "a node joined");
        Ok(Response::new(certificate))
    }

    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<Certificate>, Status> {
        let proven = self.proven(&request)?;
        let request = request.into_inner();
        let reading = self.mesh.readings.borrow().clone();
        let identity = identity(&reading.objects, &proven, self, &request.workload).inspect_err(|status| {
            tracing::warn!(node = %proven.node(), workload = request.workload, reason = status.message(), "a certificate was refused");
        })?;
        let life = reading.objects.mesh_config.as_ref().and_then(|mesh| mesh.workload_certificate_life);
        let certificate = self.authority.sign_workload(&proven, &identity, &request.csr_der, life).map_err(unsigned)?;
        tracing::debug!(node = %proven.node(), workload = request.workload, %identity, "a certificate was issued");
        Ok(Response::new(certificate))
    }
}

impl Services {
    /// Anybody can be refused, any number of times.
    fn tell_of_refusal(&self, node: &str, reason: &Unproven) {
        if let Some(left_out) = self.refusals.turn(Instant::now()) {
            tracing::warn!(node = shortened(node.to_owned()), %reason, left_out, "a join was refused");
        }
    }
}

/// The identity of a live pod (a terminating one is live) on the calling node. A node learns nothing about pods elsewhere.
fn identity(objects: &Objects, node: &ProvenNode, services: &Services, workload: &str) -> Result<Identity, Status> {
    let unknown = || Status::not_found(format!("no pod with uid {workload:?} runs on node {}", node.node()));
    let uid: WorkloadUid = workload.parse().map_err(|_| unknown())?;
    let pod: &Pod = objects.pod(&uid).filter(|pod| pod.node.as_ref() == Some(node.node())).ok_or_else(unknown)?;
    let denied = |why: &str| Err(Status::failed_precondition(format!("{} gets no certificate: {why}", pod.title())));
    if pod.finished {
        return denied("it has finished");
    }
    if pod.mirror {
        return denied("it is a mirror pod, which anybody with the node's credential can forge");
    }
    if pod.service_account.is_empty() {
        return denied("it has no service account");
    }
    Identity::new(services.trust_domain(), &pod.metadata.namespace, &pod.service_account)
        .map_err(|error| Status::internal(error.to_string()))
}

#[expect(clippy::needless_pass_by_value, reason = "it is the last thing that happens to the error")]
fn unsigned(error: SignError) -> Status {
    match error {
        SignError::Sign(_) => Status::internal(error.to_string()),
        SignError::Unsure => Status::unavailable(error.to_string()),
        SignError::TooLarge(_) | SignError::NotValid(_) | SignError::OtherKey => {
            Status::invalid_argument(error.to_string())
        }
    }
}
