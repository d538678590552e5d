//! Judges one case on one way through the mesh against the same case without a mesh.
//!
//! Invariants: what an application saw, policy saw, as the same request and as often; what it saw is what it sees without a
//! mesh, or nothing and the client knows; nothing else may happen unless the case's notes name it.

use std::collections::BTreeSet;

use super::case::{Case, Note};
use super::equivalence::{self, Allowance};
use super::stage::{Application, Played, Way};
use super::view::{Answer, Record, Seen};

/// What the rule of the stage denies.
const FORBIDDEN: &str = "/forbidden";
/// Where the route of the stage leaves its mark.
const MARKED: &str = "/other";
/// How the mesh refuses a request that it cannot or will not understand.
const REFUSALS: [u16; 5] = [400, 414, 431, 501, 505];
/// What a record keeps of a long method and of a long path, in bytes.
const METHOD_RECORDED: usize = 32;
const PATH_RECORDED: usize = 512;

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The same requests, byte by byte or with what may differ.
    Same,
    /// Neither way gave the application a request.
    Neither,
    /// The rule denied what the application would have been asked for.
    Denied,
    /// The mesh refused it, as the case's note says.
    Refused,
    /// The application saw what policy saw, and not what it sees of the client's own bytes, as the case's note says.
    Normalised,
}

/// What was found, and how many comparisons it took.
pub struct Verdict {
    pub outcome: Outcome,
    pub used: BTreeSet<Allowance>,
    pub note: Option<Note>,
    pub checks: usize,
    pub violations: Vec<String>,
}

/// One case on one way to one application.
pub struct Trial<'a> {
    pub case: &'a Case,
    pub application: Application,
    pub way: Way,
    pub direct: &'a Played,
    pub meshed: &'a Played,
}

impl Trial<'_> {
    pub fn judge(&self) -> Verdict {
        let mut verdict =
            Verdict { outcome: Outcome::Same, used: BTreeSet::new(), note: None, checks: 0, violations: Vec::new() };
        self.check_policy(&mut verdict);
        self.check_answers(&mut verdict);
        self.compare(&mut verdict);
        verdict
    }

    /// What the application saw, the agents saw: as often, and as the same.
    fn check_policy(&self, verdict: &mut Verdict) {
        let (way, seen) = (self.way, &self.meshed.notes.requests);
        if way.is_judged() {
            for request in seen {
                let denied = is_below(FORBIDDEN, &equivalence::leniently(request));
                verdict.check(!denied, || format!("what the rule denies has arrived as {}", request.target));
            }
        }
        // Bytes that are relayed as they are have no record of a request, and no name in their fields.
        let relayed = way == Way::Learned && self.meshed.outbound.is_empty();
        if !relayed {
            self.check_records("the inbound record", &self.meshed.inbound, verdict);
        }
        if way.has_outbound() && !relayed {
            self.check_records("the outbound record", &self.meshed.outbound, verdict);
        }
        for request in seen {
            let ids = request.values("weft-request-id");
            let known = [&self.meshed.outbound, &self.meshed.inbound].into_iter().flatten();
            let own = ids.len() == 1 && known.clone().any(|record| record.text("request") == ids[0]);
            verdict.check(relayed || own, || format!("its request id is {ids:?}, which no agent gave"));
            let marked = request.values("x-route") == ["other"];
            let (path, _) = equivalence::split_query(&request.target);
            let meant = way == Way::Routed && is_below(MARKED, path);
            verdict.check(marked == meant, || format!("{path} went by another route than its own"));
        }
    }

    fn check_records(&self, what: &str, records: &[Record], verdict: &mut Verdict) {
        let seen = &self.meshed.notes.requests;
        let forwarded: Vec<&Record> = records.iter().filter(|record| record.is_forwarded()).collect();
        verdict.check(forwarded.len() >= seen.len(), || {
            format!("the application saw {} requests, {what}s are {}", seen.len(), forwarded.len())
        });
        // An application may refuse what was forwarded before anybody notes it; what it notes is in order.
        let mut rest = forwarded.into_iter();
        for request in seen {
            let record = rest.find(|record| says(record, request));
            verdict.check(record.is_some(), || {
                format!("no {what} says {} {} of {}", request.method, request.target, request.host)
            });
        }
    }

    /// The client's answers are those to its own requests, in their order.
    fn check_answers(&self, verdict: &mut Verdict) {
        let named = |answers: &[Answer]| answers.iter().filter_map(|answer| answer.seen.clone()).collect::<Vec<_>>();
        let answered = named(&self.meshed.answers);
        let mut seen = self.meshed.notes.requests.iter();
        for name in &answered {
            let own = seen.any(|request| request.name == *name);
            verdict.check(own, || format!("the client got the answer {name}, which is to none of its requests"));
        }
        // Some applications answer something themselves.
        let own = |answer: &&Answer| answer.status < 400 && answer.seen.is_none();
        let usual = self.direct.answers.iter().find(own).map(|answer| answer.status);
        let unasked = self.meshed.answers.iter().filter(own).find(|answer| Some(answer.status) != usual);
        verdict.check(unasked.is_none(), || format!("an answer of nobody: {unasked:?}"));
        let after = self.meshed.after.as_ref();
        let whole = after
            .is_some_and(|answer| answer.status == 200 && answer.seen.as_deref() == Some(&self.meshed.notes.after));
        verdict.check(whole, || format!("the next request on this way was answered {after:?}"));
    }

    /// The application saw what it sees without a mesh, or nothing and the client knows. A request that breaks off may be
    /// seen or not.
    fn compare(&self, verdict: &mut Verdict) {
        let whole = |played: &'_ Played| -> Vec<Seen> {
            played.notes.requests.iter().filter(|request| request.complete).cloned().collect()
        };
        let (direct, meshed) = (whole(self.direct), whole(self.meshed));
        let alike =
            direct.iter().zip(&meshed).take_while(|(plain, arrived)| self.is_same(plain, arrived, verdict)).count();
        verdict.checks += direct.len().max(meshed.len());
        if alike == meshed.len() && alike == direct.len() {
            verdict.outcome = if alike == 0 { Outcome::Neither } else { Outcome::Same };
        } else if alike == meshed.len() {
            self.refused(verdict, alike, &direct[alike]);
        } else {
            let told = meshed.get(alike).map(|request| format!("{request:?}")).unwrap_or_default();
            self.allow(verdict, Note::Normalised, Outcome::Normalised, || {
                format!("the application saw something else than without a mesh: {told}")
            });
        }
    }

    fn is_same(&self, plain: &Seen, arrived: &Seen, verdict: &mut Verdict) -> bool {
        if equivalence::is_identical(plain, arrived) {
            return true;
        }
        let meshed = equivalence::arrived(self.application, arrived, self.way.is_judged());
        let mut used = BTreeSet::new();
        let sent = (plain, self.case.bytes.as_slice());
        let same = meshed == equivalence::expected(self.application, sent, self.way.is_judged(), &mut used);
        let lower = |(name, value): &(String, String)| (name.to_ascii_lowercase(), value.clone());
        let trailers: Vec<_> = plain.trailers.iter().map(lower).collect();
        let same = same && arrived.trailers.iter().all(|trailer| trailers.contains(&lower(trailer)));
        if same {
            verdict.used.append(&mut used);
        }
        same
    }

    /// The mesh kept `next`, which comes after `alike` requests, from the application.
    fn refused(&self, verdict: &mut Verdict, alike: usize, next: &Seen) {
        let refusal = self.meshed.answers.iter().find(|answer| answer.seen.is_none());
        let reason = refusal.and_then(|answer| answer.reason.as_deref());
        if self.way.is_judged() && reason == Some("denied_by_rule") {
            let sent = (next, self.case.bytes.as_slice());
            let form = equivalence::expected(self.application, sent, true, &mut BTreeSet::new());
            let path = form.path();
            verdict.check(is_below(FORBIDDEN, path), || format!("{path} was denied, and no rule speaks of it"));
            verdict.outcome = Outcome::Denied;
            return;
        }
        let said = refusal.is_some_and(|answer| REFUSALS.contains(&answer.status));
        let opaque = self.meshed.connection.as_ref().is_some_and(|record| record.text("reason") == "protocol_refused");
        // A server may also end a connection after an answer; a client that still waits for another knows.
        let ended = alike > 0 && self.meshed.outcome == "closed";
        verdict.check(said || opaque || ended, || {
            format!("it never arrived, and the client got {:?}", self.meshed.answers)
        });
        verdict.outcome = Outcome::Refused;
        if next.method == "CONNECT" && reason == Some("tunnel_refused") {
            return;
        }
        let note = if self.way.is_judged() && self.case.notes.contains(&Note::RefusedWhereJudged) {
            Note::RefusedWhereJudged
        } else {
            Note::Refused
        };
        self.allow(verdict, note, Outcome::Refused, || {
            let why = self.meshed.outbound.iter().chain(&self.meshed.inbound).next_back();
            format!("the application takes it, the mesh refuses it: {}", why.map(Record::to_string).unwrap_or_default())
        });
    }

    fn allow(&self, verdict: &mut Verdict, note: Note, outcome: Outcome, otherwise: impl FnOnce() -> String) {
        verdict.check(self.case.notes.contains(&note), otherwise);
        verdict.note = Some(note);
        verdict.outcome = outcome;
    }
}

impl Verdict {
    fn check(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        self.checks += 1;
        if !holds {
            self.violations.push(otherwise());
        }
    }
}

fn is_below(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a record is of the request that an application saw.
fn says(record: &Record, seen: &Seen) -> bool {
    let tunnel = seen.method == "CONNECT";
    let path = if tunnel { String::new() } else { equivalence::path_of(seen) };
    // The applications tell bytes, the records text.
    let letters = |field: &str| record.text(field).bytes().map(char::from).collect::<String>();
    is_recorded(record.text("method"), &seen.method, METHOD_RECORDED)
        && is_recorded(&letters("path"), &path, PATH_RECORDED)
        && letters("host") == seen.host
}

/// Whether a record's text is what was seen, or exactly as much of it as a record keeps.
fn is_recorded(recorded: &str, seen: &str, most: usize) -> bool {
    let cut = seen.len() > most && recorded.len() == most && seen.starts_with(recorded);
    recorded == seen || cut
}
