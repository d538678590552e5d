use super::*;

const LEASE: Duration = Duration::from_secs(10);

struct Clock(Instant);

impl Clock {
    fn at(&self, seconds: u64) -> Instant {
        self.0 + Duration::from_secs(seconds)
    }
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn enrolled(uids: &[&str]) -> v1::agent_report::Kind {
    v1::agent_report::Kind::Enrolled(v1::Enrolled {
        workloads: uids.iter().map(ToString::to_string).collect(),
        failed: vec![],
    })
}

fn alive() -> v1::agent_report::Kind {
    v1::agent_report::Kind::Heartbeat(v1::Heartbeat::default())
}

fn with_nodes(names: &[&str]) -> (Agents, Clock) {
    let clock = Clock(Instant::now());
    let mut agents = Agents::new(LEASE, Remembered::default(), clock.at(0));
    for name in names {
        agents.hear(&node(name), enrolled(&[&format!("pod-{name}")]), clock.at(0)).unwrap();
    }
    (agents, clock)
}

#[test]
fn one_of_two_nodes_is_marked_after_a_whole_lease_and_unmarked_when_it_speaks() {
    let (mut agents, clock) = with_nodes(&["a", "b"]);
    agents.hear(&node("b"), alive(), clock.at(9)).unwrap();
    assert!(agents.observe(clock.at(9)).gone.is_empty());
    assert_eq!(agents.observe(clock.at(10)).gone, BTreeSet::from([node("a")]));
    assert!(agents.hear(&node("a"), alive(), clock.at(12)).unwrap(), "its return changes the mesh");
    assert!(agents.observe(clock.at(12)).gone.is_empty());
}

#[test]
fn nobody_is_marked_when_more_than_half_fall_silent_together() {
    let (mut agents, clock) = with_nodes(&["a", "b", "c", "d"]);
    agents.hear(&node("d"), alive(), clock.at(9)).unwrap();
    for second in 10..100 {
        agents.hear(&node("d"), alive(), clock.at(second)).unwrap();
        assert!(agents.observe(clock.at(second)).gone.is_empty());
    }
    let (mut two, clock) = with_nodes(&["a", "b"]);
    assert!(two.observe(clock.at(20)).gone.is_empty(), "both of two nodes silent is a partition");
}

#[test]
fn a_partition_is_seen_before_its_first_lease_ends() {
    let (mut agents, clock) = with_nodes(&["a", "b", "c", "d"]);
    // Heartbeats of a third of a lease, spread: the last words of each node before the partition.
    for (name, second) in [("b", 1), ("c", 2), ("d", 3)] {
        agents.hear(&node(name), alive(), clock.at(second)).unwrap();
    }
    for second in 10..20 {
        assert!(agents.observe(clock.at(second)).gone.is_empty(), "second {second}");
    }
}

#[test]
fn a_mark_stays_when_others_fall_silent_later() {
    let (mut agents, clock) = with_nodes(&["a", "b"]);
    agents.hear(&node("b"), alive(), clock.at(9)).unwrap();
    assert_eq!(agents.observe(clock.at(11)).gone, BTreeSet::from([node("a")]));
    assert_eq!(agents.observe(clock.at(30)).gone, BTreeSet::from([node("a")]), "b is not added, a is not taken back");
}

#[test]
fn after_a_restart_nothing_negative_is_said_for_a_lease() {
    let (agents, clock) = with_nodes(&["a", "b"]);
    let mut restarted = Agents::new(LEASE, Remembered::of(&agents.workloads()), clock.at(100));
    let observed = restarted.observe(clock.at(105));
    assert!(observed.gone.is_empty());
    assert!(observed.capable[&node("a")].contains(&"pod-a".parse().unwrap()), "unknown was read as not capable");
    restarted.hear(&node("b"), alive(), clock.at(109)).unwrap();
    assert_eq!(restarted.observe(clock.at(110)).gone, BTreeSet::from([node("a")]));
}

#[test]
fn nobody_is_gone_while_nobody_may_speak() {
    let (mut agents, clock) = with_nodes(&["a", "b", "c", "d"]);
    for name in ["b", "c", "d"] {
        agents.hear(&node(name), alive(), clock.at(9)).unwrap();
    }
    assert_eq!(agents.observe(clock.at(10)).gone, BTreeSet::from([node("a")]));
    agents.suspend();
    for name in ["c", "d"] {
        agents.hear(&node(name), alive(), clock.at(18)).unwrap();
    }
    assert_eq!(agents.observe(clock.at(19)).gone, BTreeSet::from([node("a")]), "b may speak to another controller");
    agents.resume(clock.at(60));
    assert!(agents.observe(clock.at(69)).gone.is_empty(), "all have a lease to speak again");
    agents.hear(&node("a"), alive(), clock.at(69)).unwrap();
    for name in ["c", "d"] {
        agents.hear(&node(name), alive(), clock.at(69)).unwrap();
    }
    assert_eq!(agents.observe(clock.at(70)).gone, BTreeSet::from([node("b")]));
    agents.resume(clock.at(71));
    assert_eq!(agents.observe(clock.at(72)).gone, BTreeSet::from([node("b")]), "it was not suspended");
}

#[test]
fn an_agent_that_begins_anew_has_a_lease_to_find_its_pods() {
    let (mut agents, clock) = with_nodes(&["a"]);
    let capable = |agents: &mut Agents, second: u64| {
        let observed = agents.observe(clock.at(second));
        observed.capable[&node("a")].iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    agents.hear(&node("a"), enrolled(&["one", "two", "three"]), clock.at(20)).unwrap();
    assert_eq!(capable(&mut agents, 20), ["one", "three", "two"], "a settled agent's word counts at once");
    agents.begin(&node("a"), clock.at(30));
    let failed = vec![v1::NotEnrolled { workload: "two".to_owned(), reason: "no netns".to_owned() }];
    let report = v1::Enrolled { workloads: vec!["one".to_owned()], failed };
    agents.hear(&node("a"), v1::agent_report::Kind::Enrolled(report), clock.at(31)).unwrap();
    assert_eq!(
        capable(&mut agents, 31),
        ["one", "three", "two"],
        "what it has not named is unknown, and so is what it cannot serve yet"
    );
    assert_eq!(agents.next_end(clock.at(31)), Some(clock.at(40)));
    agents.hear(&node("a"), alive(), clock.at(39)).unwrap();
    assert_eq!(capable(&mut agents, 40), ["one"]);
    agents.hear(&node("a"), enrolled(&[]), clock.at(41)).unwrap();
    assert!(capable(&mut agents, 41).is_empty());
}

#[test]
fn an_acknowledgement_reaches_the_generation_of_the_same_content() {
    let (mut agents, clock) = with_nodes(&["a", "b"]);
    let acknowledge = |snapshot: &str| {
        v1::agent_report::Kind::Acknowledgement(v1::Acknowledgement { snapshot: snapshot.to_owned(), nacks: vec![] })
    };
    for name in ["a", "b"] {
        agents.offer(&node(name), "one".to_owned(), 1, clock.at(0));
        let is_news = agents.hear(&node(name), acknowledge("one"), clock.at(0)).unwrap();
        assert!(!is_news, "nobody waits for it");
    }
    agents.set_awaited(true);
    assert!(agents.all_acknowledged(1, clock.at(1)));
    agents.offer(&node("a"), "one".to_owned(), 2, clock.at(1));
    assert!(!agents.all_acknowledged(2, clock.at(1)), "b has not been offered it");
    agents.offer(&node("b"), "two".to_owned(), 2, clock.at(1));
    assert!(!agents.all_acknowledged(2, clock.at(1)), "b has not acknowledged it");
    assert!(agents.hear(&node("b"), acknowledge("two"), clock.at(2)).unwrap());
    assert!(agents.all_acknowledged(2, clock.at(2)));
}

#[test]
fn an_agent_that_begins_anew_has_acknowledged_nothing() {
    let (mut agents, clock) = with_nodes(&["a"]);
    let acknowledge =
        || v1::agent_report::Kind::Acknowledgement(v1::Acknowledgement { snapshot: "one".to_owned(), nacks: vec![] });
    agents.offer(&node("a"), "one".to_owned(), 7, clock.at(0));
    agents.hear(&node("a"), acknowledge(), clock.at(0)).unwrap();
    assert!(agents.all_acknowledged(7, clock.at(1)));
    agents.begin(&node("a"), clock.at(2));
    agents.hear(&node("a"), alive(), clock.at(2)).unwrap();
    agents.offer(&node("a"), "two".to_owned(), 8, clock.at(2));
    assert!(!agents.all_acknowledged(7, clock.at(2)), "its last life's word still counts");
    agents.hear(&node("a"), acknowledge(), clock.at(3)).unwrap();
    assert!(agents.all_acknowledged(7, clock.at(3)) && !agents.all_acknowledged(8, clock.at(3)));
}

#[test]
fn nacks_are_kept_until_the_next_acknowledgement() {
    let (mut agents, clock) = with_nodes(&["a"]);
    let nack =
        v1::Nack { resource: "authorization/shop/x".to_owned(), version: vec![1], reason: "lacks feature".to_owned() };
    let report =
        |nacks| v1::agent_report::Kind::Acknowledgement(v1::Acknowledgement { snapshot: "s".to_owned(), nacks });
    agents.hear(&node("a"), report(vec![nack]), clock.at(1)).unwrap();
    let (_, agent) = agents.iter().next().unwrap();
    assert_eq!(
        agent.nacks,
        [Nack { resource: "authorization/shop/x".to_owned(), version: vec![1], reason: "lacks feature".to_owned() }]
    );
    agents.hear(&node("a"), report(vec![]), clock.at(2)).unwrap();
    assert!(agents.iter().next().unwrap().1.nacks.is_empty());
}
