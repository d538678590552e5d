//! What became of the pair's last connections.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weft_proto::names::NamespacedName;

use super::{Known, Told};
use crate::admin::finding::{Cause, End, Finding, Weight};
use crate::admin::question::{Source, Target};
use crate::admin::story::Story;
use crate::error::{Reason, Side};
use crate::model::Endpoint;
use crate::telemetry::{ConnectionRecord, Direction, Party, RequestRecord, Security, Verdict};

/// What agents have kept of a pair, newest first.
pub(super) struct OfPair {
    pub connections: Vec<Arc<ConnectionRecord>>,
    pub requests: Vec<Arc<RequestRecord>>,
}

/// The kept records of connections and requests from the source to the target, or to where routes lead.
pub(super) fn of_pair(known: &Known<'_>, source: &Source, target: &Target, reached: &[Endpoint]) -> OfPair {
    let endpoints: Vec<_> = target.endpoints().into_iter().chain(reached.iter().cloned()).collect();
    let (service, port) = match target {
        Target::Service { service, port, .. } | Target::UnknownPort { service, port } => (Some(service), *port),
        Target::Workload { asked, .. } | Target::Foreign(asked) => (None, asked.port()),
    };
    let of_service = service.iter().flat_map(|service| &service.addresses);
    let asked = of_service.map(|address| SocketAddr::new(*address, port)).chain(target.asked()).collect();
    let pair = Pair {
        source,
        service: service.map(|service| &service.name),
        asked,
        addresses: endpoints.iter().map(|endpoint| endpoint.address).collect(),
        names: endpoints.iter().filter_map(|endpoint| known.row(endpoint)).map(|row| &*row.name).collect(),
    };
    let connections = known.records.iter().filter(|record| {
        let ends = (record.original_destination, record.service.as_ref());
        pair.has(&record.source, &record.destination, ends)
    });
    let requests = known.requests.iter().filter(|record| {
        let ends = (record.original_destination, record.service.as_ref());
        pair.has(&record.source, &record.destination, ends)
    });
    OfPair { connections: connections.map(Arc::clone).collect(), requests: requests.map(Arc::clone).collect() }
}

struct Pair<'a> {
    source: &'a Source,
    service: Option<&'a NamespacedName>,
    /// Every address that the application may have dialled.
    asked: BTreeSet<SocketAddr>,
    /// Where it may have ended.
    addresses: BTreeSet<SocketAddr>,
    names: BTreeSet<&'a str>,
}

impl Pair<'_> {
    fn has(&self, source: &Party, destination: &Party, asked: (Option<SocketAddr>, Option<&NamespacedName>)) -> bool {
        self.comes_from(source) && self.goes_to(destination, asked)
    }

    fn comes_from(&self, party: &Party) -> bool {
        let address: Option<IpAddr> = party.address.map(|address| address.ip());
        match (self.source, &party.workload) {
            // An address may have had another owner when the record was made; a uid never has.
            (Source::Workload { row, .. }, Some(workload)) => workload.uid == row.uid,
            (Source::Workload { row, .. }, None) => address.is_some_and(|address| row.addresses.contains(&address)),
            (Source::Stranger(stranger), _) => address == Some(*stranger),
        }
    }

    /// By what was asked for, or by where it ended: a failure at the same pod and port says as much.
    fn goes_to(&self, destination: &Party, (asked, service): (Option<SocketAddr>, Option<&NamespacedName>)) -> bool {
        if asked.is_some_and(|asked| self.asked.contains(&asked)) {
            return true;
        }
        let reached = destination.address.or(asked);
        let same_port = self.addresses.iter().any(|address| Some(address.port()) == reached.map(|at| at.port()));
        let of_service = self.service.is_some() && service == self.service;
        let named = destination.workload.as_deref().is_some_and(|row| self.names.contains(&*row.name));
        reached.is_some_and(|address| self.addresses.contains(&address)) || (same_port && (named || of_service))
    }
}

/// Whether the last connection that arrived here came with mesh TLS, whatever became of it. Who is not captured may still
/// hold a certificate, and then it is that which decides.
pub(super) fn offered_mesh_tls(records: &[Arc<ConnectionRecord>]) -> bool {
    let arrived = records.iter().filter(|record| record.direction == Direction::Inbound);
    arrived.max_by_key(|record| record.started).is_some_and(|last| {
        last.security == Security::Mtls
            || matches!(
                last.reason,
                Reason::CertificateExpired
                    | Reason::CertificateUntrusted
                    | Reason::CertificateMalformed
                    | Reason::CertificateMissing
            )
    })
}

/// Says how the last connection or request ended, where it did not end well.
pub(super) fn tell(known: &Known<'_>, pair: &OfPair, told: &mut Told) {
    let request = pair.requests.iter().max_by_key(|record| record.started);
    let connection = pair.connections.iter().max_by_key(|record| record.started);
    let asked_later =
        |connection: &&Arc<ConnectionRecord>| request.is_none_or(|request| request.ended() < connection.ended());
    match (connection.filter(asked_later), request) {
        // A connection that carried requests ends long after them, and well.
        (Some(connection), _) if connection.verdict() != Verdict::Allow => {
            tell_connection(connection, &pair.connections, told);
        }
        (_, Some(request)) => {
            told.findings.extend(
                Story { node: known.node, snapshot: known.snapshot, now: known.now, ejected: known.ejected }
                    .findings(request),
            );
        }
        (_, None) => {}
    }
}

fn tell_connection(last: &ConnectionRecord, records: &[Arc<ConnectionRecord>], told: &mut Told) {
    let same = records.iter().take_while(|record| record.reason == last.reason).count();
    let mut finding = Finding::new(Cause::Reason(last.reason), Weight::Happened, end_of(last), summary(last, same));
    finding.at = Some(last.started);
    finding.evidence.push(evidence(last));
    told.finding(finding);
}

fn summary(last: &ConnectionRecord, same: usize) -> String {
    let times =
        if same > 1 { format!("the last {same} connections were") } else { "the last connection was".to_owned() };
    let rule = last.rule.as_deref().map(|rule| format!(" by {rule}")).unwrap_or_default();
    let detail = last.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
    let verb = match last.verdict() {
        Verdict::Deny => "refused",
        Verdict::Allow | Verdict::Fail => "ended",
    };
    format!("{} {verb}{rule} with {}{detail}.", capitalised(&times), last.reason.code())
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

fn evidence(last: &ConnectionRecord) -> String {
    let direction = last.direction.word();
    format!("Record {} ({direction}, {:.3}, snapshot {}).", last.id, last.started, last.snapshot.0)
}

fn end_of(record: &ConnectionRecord) -> End {
    end(record.direction, record.side)
}

/// Where on the path a record's failure was.
pub(in crate::admin) fn end(direction: Direction, side: Option<Side>) -> End {
    match (direction, side) {
        (Direction::Outbound, Some(Side::Downstream | Side::Local)) => End::Source,
        (Direction::Outbound, Some(Side::Upstream) | None) | (Direction::Inbound, Some(Side::Downstream)) => End::Path,
        (Direction::Inbound, Some(Side::Upstream | Side::Local) | None) => End::Destination,
    }
}
