//! Where a connection goes that `TCPRoutes` or `TLSRoutes` speak of: to one backend of the rule that fits, by its weight.
//!
//! A share whose backend cannot be used is refused, never a sibling's. Invariant: what was read to know the rule is replayed,
//! and nobody answers the client's TLS but the backend.

use std::sync::Arc;

use tokio::net::TcpStream;

use crate::error::{ConnectionError, Reason, Side};
use crate::http::split;
use crate::model::{ConnectionRoutes, ConnectionRules, RouteRule, Snapshot};
use crate::node::pod::Pod;
use crate::telemetry::ConnectionRecord;
use crate::worker::Worker;

use super::destination::{Candidates, Carriage, backend_port, broken};
use super::protocol;

/// Puts the backend's endpoints in place of the port's, where routes ask for that. Gives the bytes that were read for it; None:
/// the client has ended without a word.
pub async fn follow(
    worker: &Worker,
    pod: &Pod,
    snapshot: &Snapshot,
    candidates: &mut Candidates<'_>,
    downstream: &TcpStream,
    record: &mut ConnectionRecord,
) -> Result<Option<Vec<u8>>, ConnectionError> {
    let Carriage::ByRoute(routes) = candidates.carriage else { return Ok(Some(Vec::new())) };
    let (rule, seen) = match &routes.rules {
        ConnectionRules::One(rule) => (rule.as_ref().ok_or_else(|| no_rule(routes, None))?, Vec::new()),
        ConnectionRules::ByName(names) => {
            // Boxed: few connections go this way.
            let greeted = Box::pin(protocol::server_name(worker, pod, downstream)).await?;
            let Some((name, seen)) = greeted else { return Ok(None) };
            (names.rule_for(&name).ok_or_else(|| no_rule(routes, Some(&name)))?, seen)
        }
    };
    lead(snapshot, rule, candidates, record)?;
    Ok(Some(seen))
}

fn lead(
    snapshot: &Snapshot,
    rule: &RouteRule,
    candidates: &mut Candidates<'_>,
    record: &mut ConnectionRecord,
) -> Result<(), ConnectionError> {
    record.route = Some(Arc::clone(&rule.route));
    let backend = split::pick(&rule.backends, &mut rand::rng()).map_err(|why| broken(format!("{rule}: {why}")))?;
    let (service, port) = backend_port(snapshot, &backend.target, rule)?;
    record.backend = Some((service.clone(), port.port));
    candidates.lead_to(service, port)
}

fn no_rule(routes: &ConnectionRoutes, name: Option<&str>) -> ConnectionError {
    let why = match name {
        Some(name) => format!("no hostname of the TLSRoutes of Service {} fits the server {name}", routes.service),
        None => format!("the routes of Service {} could not be read", routes.service),
    };
    ConnectionError::new(Side::Local, Reason::NoRoute).with_detail(why)
}
