//! One root after another, among controllers that crash and agents that come and go.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const LEAF: i64 = 100;
const OVERLAP: i64 = 2 * LEAF;
const LEASE: i64 = 10;
const CONTROLLERS: usize = 3;
const AGENTS: usize = 4;

fn written(name: u32) -> Written {
    Written { key: String::new(), certificate: name.to_string() }
}

fn seconds(count: i64) -> Duration {
    Duration::from_secs(count.unsigned_abs())
}

fn at(second: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(second).unwrap()
}

fn node(agent: usize) -> NodeName {
    format!("node-{agent}").parse().unwrap()
}

type Roots = Vec<String>;

fn trusted(record: &Record) -> Roots {
    record.trusted().into_iter().map(|root| root.certificate.clone()).collect()
}

#[derive(Debug, Clone)]
struct Controller {
    record: Record,
    confirmed: i64,
    leads_since: Option<i64>,
    /// What agents have told this very one that they believe.
    heard: BTreeMap<usize, Roots>,
}

/// In the mesh.
#[derive(Debug, Clone, Default)]
struct Agent {
    away: bool,
    /// Of its snapshot.
    trust: Roots,
    /// With its leaf.
    came: Roots,
    /// Who has signed it, and its end.
    leaf: Option<(String, i64)>,
}

impl Agent {
    fn believes(&self, root: &String) -> bool {
        self.trust.contains(root) || self.came.contains(root)
    }
}

#[derive(Debug, Clone)]
enum Event {
    Pass(i64),
    Want,
    /// The leader takes the step that is due. Or it keeps it, and dies before it knows.
    Step {
        dies: bool,
    },
    Lead(usize),
    Restart(usize),
    Look(usize),
    Sync(usize),
    Renew(usize, usize),
    Away(usize),
    Back(usize),
    Join(usize),
    Leave(usize),
}

fn events() -> impl Strategy<Value = Event> {
    let (controller, agent) = (0..CONTROLLERS, 0..AGENTS);
    prop_oneof![
        4 => (1..LEAF).prop_map(Event::Pass),
        1 => Just(Event::Want),
        6 => (0..10).prop_map(|chance| Event::Step { dies: chance == 0 }),
        1 => controller.clone().prop_map(Event::Lead),
        1 => controller.clone().prop_map(Event::Restart),
        3 => controller.clone().prop_map(Event::Look),
        6 => agent.clone().prop_map(Event::Sync),
        6 => (agent.clone(), controller).prop_map(|(agent, controller)| Event::Renew(agent, controller)),
        1 => agent.clone().prop_map(Event::Away),
        2 => agent.clone().prop_map(Event::Back),
        2 => agent.clone().prop_map(Event::Join),
        1 => agent.prop_map(Event::Leave),
    ]
}

#[derive(Debug)]
struct World {
    now: i64,
    kept: Record,
    made: u32,
    due: bool,
    controllers: Vec<Controller>,
    agents: BTreeMap<usize, Agent>,
}

impl World {
    fn new() -> Self {
        let kept = Record::new(written(0), seconds(OVERLAP));
        let controller = Controller { record: kept.clone(), confirmed: 0, leads_since: None, heard: BTreeMap::new() };
        let controllers = vec![controller; CONTROLLERS];
        let mut world = Self { now: 0, kept, made: 0, due: false, controllers, agents: BTreeMap::new() };
        world.happen(&Event::Lead(0));
        for agent in 0..AGENTS {
            world.happen(&Event::Join(agent));
        }
        world
    }

    fn leader(&mut self) -> Option<&mut Controller> {
        self.controllers.iter_mut().find(|controller| controller.leads_since.is_some())
    }

    fn happen(&mut self, event: &Event) {
        let now = self.now;
        match *event {
            Event::Pass(seconds) => self.now += seconds,
            Event::Want => self.due = true,
            Event::Step { dies } => self.step(dies),
            Event::Lead(which) => {
                for controller in &mut self.controllers {
                    controller.leads_since = None;
                }
                // It tells nobody anything before it has looked.
                self.happen(&Event::Look(which));
                let controller = &mut self.controllers[which];
                controller.leads_since = Some(now);
                controller.heard.clear();
            }
            Event::Restart(which) => {
                let record = self.kept.clone();
                self.controllers[which] =
                    Controller { record, confirmed: now, leads_since: None, heard: BTreeMap::new() };
            }
            Event::Look(which) => {
                self.controllers[which].record = self.kept.clone();
                self.controllers[which].confirmed = now;
            }
            Event::Sync(agent) => self.sync(agent),
            Event::Renew(agent, controller) => self.renew(agent, controller),
            Event::Away(agent) => {
                if let Some(known) = self.agents.get_mut(&agent) {
                    known.away = true;
                }
            }
            Event::Back(agent) => {
                if let Some(known) = self.agents.get_mut(&agent) {
                    known.away = false;
                }
            }
            Event::Join(agent) => {
                if self.leader().is_some() && !self.agents.contains_key(&agent) {
                    self.agents.insert(agent, Agent::default());
                    self.sync(agent);
                }
            }
            Event::Leave(agent) => {
                self.agents.remove(&agent);
                for controller in &mut self.controllers {
                    controller.heard.remove(&agent);
                }
            }
        }
    }

    fn step(&mut self, dies: bool) {
        let (now, due, kept) = (self.now, self.due, self.kept.clone());
        let agents = self.agents.clone();
        let Some(leader) = self.leader() else { return };
        let believed = trusted(&leader.record);
        let is_live = |agent: &usize| !agents[agent].away && leader.heard.contains_key(agent);
        let heard = Heard {
            settled: leader.leads_since.is_some_and(|since| now - since >= LEASE),
            late: agents
                .keys()
                .filter(|agent| is_live(agent) && leader.heard[*agent] != believed)
                .map(|agent| node(*agent))
                .collect(),
            silent: agents.keys().filter(|agent| !is_live(agent)).map(|agent| node(*agent)).collect(),
        };
        let situation = Situation { now: at(now), due, overlap: seconds(OVERLAP), agents: &heard };
        let step = super::step(&leader.record, &situation);
        let is_known = leader.record == kept;
        let Some(after) = after(&kept, step, at(now), Some(written(self.made + 1))).filter(|_| is_known) else {
            return;
        };
        if matches!(step, Step::Make(_)) {
            self.made += 1;
            self.due = false;
        }
        self.kept = after.clone();
        if let Some(leader) = self.leader() {
            if dies {
                leader.leads_since = None;
            } else {
                leader.record = after;
            }
        }
    }

    fn sync(&mut self, which: usize) {
        let Some(leader) = self.controllers.iter_mut().find(|controller| controller.leads_since.is_some()) else {
            return;
        };
        let Some(agent) = self.agents.get_mut(&which).filter(|agent| !agent.away) else { return };
        agent.trust = trusted(&leader.record);
        leader.heard.insert(which, agent.trust.clone());
    }

    fn renew(&mut self, agent: usize, controller: usize) {
        let (now, controller) = (self.now, &self.controllers[controller]);
        let Some(agent) = self.agents.get_mut(&agent).filter(|agent| !agent.away) else { return };
        let end = (now + LEAF).min(controller.confirmed + OVERLAP);
        if end > now {
            agent.leaf = Some((controller.record.issuer().certificate.clone(), end));
            agent.came = trusted(&controller.record);
        }
    }

    /// Who meets a certificate that is good and that it does not believe.
    fn stranger(&self) -> Option<String> {
        let has = |agent: &Agent| agent.leaf.clone().filter(|(_, end)| *end >= self.now).map(|(root, _)| root);
        let serving = || self.agents.iter().filter_map(|(number, agent)| Some((number, agent, has(agent)?)));
        serving().find_map(|(number, agent, _)| {
            let (other, ..) = serving().find(|(_, _, root)| !agent.believes(root))?;
            Some(format!("agent {number} meets agent {other} at {}: {self:#?}", self.now))
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn nobody_meets_a_certificate_that_it_does_not_believe(events in prop::collection::vec(events(), 0..200)) {
        let mut world = World::new();
        for event in events {
            world.happen(&event);
            let stranger = world.stranger();
            prop_assert!(stranger.is_none(), "after {event:?} {}", stranger.unwrap_or_default());
        }
    }

    #[test]
    fn a_rotation_comes_to_its_end_from_wherever_it_is(events in prop::collection::vec(events(), 0..100)) {
        let mut world = World::new();
        for event in events {
            world.happen(&event);
        }
        world.due = false;
        world.happen(&Event::Lead(0));
        for _ in 0..20 {
            for agent in 0..AGENTS {
                world.happen(&Event::Back(agent));
                world.happen(&Event::Sync(agent));
            }
            world.happen(&Event::Step { dies: false });
            world.happen(&Event::Pass(LEAF));
        }
        prop_assert!(world.kept.next.is_none(), "{:#?}", world.kept);
        prop_assert_eq!(world.kept.root.certificate, world.made.to_string());
    }
}

/// All phases of the rotation that `agents` allow, each with the second in which it began.
fn course(agents: &Heard, patience: i64) -> Vec<(&'static str, i64)> {
    let mut record = Record::new(written(0), seconds(OVERLAP));
    let mut course = Vec::new();
    for second in 0..patience {
        let due = record.root == written(0);
        let situation = Situation { now: at(second), due, overlap: seconds(OVERLAP), agents };
        if let Some(next) = after(&record, step(&record, &situation), at(second), Some(written(1))) {
            course.push((next.phase().map_or("none", Phase::as_str), second));
            record = next;
        }
    }
    course
}

#[test]
fn each_phase_waits_for_whom_it_concerns() {
    let heard = Heard { settled: true, ..Heard::default() };
    let looks = OVERLAP / i64::from(limits::ROOT_LOOKS_PER_OVERLAP) * 2;
    let reissue = looks + 1;
    let retire = reissue + OVERLAP + 1;
    let whole = [("TrustNew", 0), ("Reissue", reissue), ("RetireOld", retire), ("none", retire + 1)];
    assert_eq!(course(&heard, 10 * OVERLAP), whole);

    let late = Heard { late: [node(1)].into(), ..heard.clone() };
    assert_eq!(
        course(&late, 10 * OVERLAP),
        whole[..1],
        "an agent that lives is not left behind, however long it takes"
    );
    let beginner = Heard { settled: false, ..heard.clone() };
    assert_eq!(course(&beginner, 10 * OVERLAP), whole[..1], "whoever has just begun to lead knows of no agent");
    let away = Heard { silent: [node(1)].into(), ..heard };
    let reissue = OVERLAP + 1;
    assert_eq!(
        course(&away, 2 * OVERLAP)[1],
        ("Reissue", reissue),
        "who is away is waited for until it has nothing left"
    );
}

#[test]
fn longer_lives_are_allowed_before_anybody_signs_for_them() {
    let mut record = Record::new(written(0), seconds(OVERLAP));
    let heard = Heard { settled: true, ..Heard::default() };
    let longer = |record: &Record, now: i64| {
        step(record, &Situation { now: at(now), due: true, overlap: seconds(3 * OVERLAP), agents: &heard })
    };
    assert_eq!(longer(&record, 0), Step::Lengthen(seconds(3 * OVERLAP)));
    record = after(&record, longer(&record, 0), at(0), None).unwrap();
    record = after(&record, longer(&record, 0), at(0), Some(written(1))).unwrap();
    record = after(&record, longer(&record, OVERLAP), at(OVERLAP), None).unwrap();
    assert_eq!(record.phase(), Some(Phase::Reissue));
    assert_eq!(longer(&record, 2 * OVERLAP + 2), Step::Wait, "what the old root has signed may last longer");
    assert_eq!(longer(&record, 4 * OVERLAP + 2), Step::Enter(Phase::RetireOld));
}

#[test]
fn a_supplied_root_is_replaced_by_whoever_supplied_it() {
    let record = Record { overlap: None, ..Record::new(written(0), seconds(OVERLAP)) };
    let heard = Heard { settled: true, ..Heard::default() };
    let situation = Situation { now: at(0), due: true, overlap: seconds(OVERLAP), agents: &heard };
    assert_eq!(step(&record, &situation), Step::Wait);
}
