//! Who gets how much, over many choices.

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;

fn endpoints(count: usize) -> Vec<Endpoint> {
    let endpoint = |index: usize| {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + u32::try_from(index).expect("small"));
        Endpoint { address: (address, 8080).into(), workload: None }
    };
    (0..count).map(endpoint).collect()
}

fn random() -> StdRng {
    StdRng::seed_from_u64(7)
}

/// How many of `picks` connections each endpoint gets. Each one ends at once when `held` is false.
fn shares(balancer: &mut Balancer, now: Instant, endpoints: &[Endpoint], picks: usize, held: bool) -> Vec<usize> {
    let mut random = random();
    let mut guards = Vec::new();
    let mut shares = vec![0; endpoints.len()];
    for _ in 0..picks {
        let (chosen, guard) =
            balancer.pick_at(now, Terms::connection(endpoints), &[], &mut random).expect("an endpoint");
        let place = endpoints.iter().position(|endpoint| *endpoint == chosen).expect("one of them");
        shares[place] += 1;
        if held {
            guards.push(guard);
        }
    }
    shares
}

#[test]
fn open_connections_spread_evenly_among_equals() {
    let endpoints = endpoints(5);
    let shares = shares(&mut Balancer::default(), Instant::now(), &endpoints, 1000, true);
    assert_eq!(shares, vec![200; 5]);
}

#[test]
fn short_connections_spread_evenly_among_equals_despite_noise() {
    let now = Instant::now();
    let endpoints = endpoints(4);
    let mut balancer = Balancer::default();
    shares(&mut balancer, now, &endpoints, 400, false);
    for (endpoint, took) in endpoints.iter().zip([200, 350, 500, 900]) {
        balancer.sample(now, endpoint, Duration::from_micros(took));
    }
    let shares = shares(&mut balancer, now, &endpoints, 4000, false);
    assert!(shares.iter().all(|share| (850..1150).contains(share)), "{shares:?}");
}

#[test]
fn large_sets_spread_evenly_among_equals() {
    let endpoints = endpoints(100);
    let shares = shares(&mut Balancer::default(), Instant::now(), &endpoints, 2000, true);
    // Two choices bound the worst of them to a few above the mean of 20 (Mitzenmacher 2001).
    assert!(shares.iter().all(|share| (12..=28).contains(share)), "{shares:?}");
}

#[test]
fn the_faster_endpoint_gets_more() {
    let now = Instant::now();
    let endpoints = endpoints(2);
    let mut balancer = Balancer::default();
    shares(&mut balancer, now, &endpoints, 20, false);
    balancer.sample(now, &endpoints[0], Duration::from_millis(2));
    balancer.sample(now, &endpoints[1], Duration::from_millis(40));
    let shares = shares(&mut balancer, now, &endpoints, 1100, true);
    // 40 ms are ten times the tolerated 4 ms.
    assert!((980..=1020).contains(&shares[0]), "{shares:?}");
}

#[test]
fn a_failed_endpoint_is_avoided_and_tried_again_later() {
    let now = Instant::now();
    let endpoints = endpoints(3);
    let mut balancer = Balancer::default();
    shares(&mut balancer, now, &endpoints, 30, false);
    balancer.failed_at(now, &endpoints[1]);
    assert_eq!(shares(&mut balancer, now, &endpoints, 300, false)[1], 0);
    let later = now + Duration::from_secs(40);
    assert!(shares(&mut balancer, later, &endpoints, 300, false)[1] > 60);
}

#[test]
fn an_ended_connection_no_longer_counts() {
    let endpoints = endpoints(1);
    let mut balancer = Balancer::default();
    let (endpoint, guard) = balancer.pick(Terms::connection(&endpoints), &[], &mut random()).expect("an endpoint");
    assert_eq!(balancer.outstanding(&endpoint), 1);
    drop(guard);
    assert_eq!(balancer.outstanding(&endpoint), 0);
}

#[test]
fn an_address_with_a_new_owner_starts_anew() {
    let now = Instant::now();
    let old = Endpoint { workload: Some("old".parse().expect("a uid")), ..endpoints(1)[0].clone() };
    let new = Endpoint { workload: Some("new".parse().expect("a uid")), ..old.clone() };
    let mut balancer = Balancer::default();
    shares(&mut balancer, now, std::slice::from_ref(&old), 1, false);
    balancer.failed_at(now, &old);
    let (chosen, _guard) =
        balancer.pick_at(now, Terms::connection(&[old, new.clone()]), &[], &mut random()).expect("an endpoint");
    assert_eq!(chosen, new);
}

#[test]
fn the_table_is_bounded_and_keeps_busy_endpoints() {
    let endpoints = endpoints(limits::BALANCED_ENDPOINTS * 2);
    let mut balancer = Balancer::default();
    let (busy, _guard) = balancer.pick(Terms::connection(&endpoints[..1]), &[], &mut random()).expect("an endpoint");
    for endpoint in &endpoints[1..] {
        let _ = balancer.pick(Terms::connection(std::slice::from_ref(endpoint)), &[], &mut random());
        assert!(balancer.loads.len() <= limits::BALANCED_ENDPOINTS);
    }
    assert_eq!(balancer.outstanding(&busy), 1);
}

#[test]
fn a_table_of_busy_endpoints_still_serves_a_new_one() {
    let endpoints = endpoints(limits::BALANCED_ENDPOINTS + 1);
    let mut balancer = Balancer::default();
    let all: Vec<_> = endpoints
        .iter()
        .map(|endpoint| {
            balancer.pick(Terms::connection(std::slice::from_ref(endpoint)), &[], &mut random()).expect("an endpoint")
        })
        .collect();
    assert_eq!(all.len(), endpoints.len());
    assert_eq!(balancer.loads.len(), limits::BALANCED_ENDPOINTS);
}

proptest! {
    #[test]
    fn what_is_picked_was_offered_and_not_tried(
        count in 0_usize..40,
        tried in proptest::collection::vec(0_usize..40, 0..4),
        slow in proptest::collection::vec((0_usize..40, 0_u64..5000), 0..20),
        seed in any::<u64>(),
    ) {
        let all = endpoints(40);
        let offered = &all[..count];
        let tried: Vec<_> = tried.iter().map(|index| all[*index].clone()).collect();
        let mut balancer = Balancer::default();
        let mut random = StdRng::seed_from_u64(seed);
        let now = Instant::now();
        let _guards: Vec<_> = (0..20).map_while(|_| balancer.pick_at(now, Terms::connection(offered), &[], &mut random)).collect();
        for (index, milliseconds) in slow {
            balancer.sample(now, &all[index], Duration::from_millis(milliseconds));
        }
        let left = offered.iter().filter(|endpoint| !tried.contains(endpoint)).count();
        if let Some((chosen, _guard)) = balancer.pick_at(now, Terms::connection(offered), &tried, &mut random) {
            prop_assert!(offered.contains(&chosen));
            prop_assert!(!tried.contains(&chosen));
        } else {
            prop_assert_eq!(left, 0);
        }
    }
}

fn by(endpoints: &[Endpoint], balancing: Balancing) -> Terms<'_> {
    Terms { endpoints, balancing, ejection: None, session: None, affinity: None }
}

#[test]
fn a_round_goes_through_all_of_them_whatever_they_cost() {
    let (now, endpoints) = (Instant::now(), endpoints(40));
    let mut balancer = Balancer::default();
    let mut random = random();
    let terms = by(&endpoints, Balancing::RoundRobin);
    for round in 0..3 {
        let mut seen = Vec::new();
        for _ in 0..endpoints.len() {
            let (chosen, _guard) = balancer.pick_at(now, terms, &[], &mut random).expect("an endpoint");
            balancer.sample(now, &chosen, Duration::from_millis(round * 100));
            seen.push(chosen);
        }
        assert!(endpoints.iter().all(|endpoint| seen.contains(endpoint)), "round {round}");
    }
}

#[test]
fn the_least_busy_one_is_chosen_however_slow() {
    let (now, endpoints) = (Instant::now(), endpoints(3));
    let mut balancer = Balancer::default();
    let terms = by(&endpoints, Balancing::LeastRequest);
    let mut guards: Vec<_> = (0..30).map_while(|_| balancer.pick_at(now, terms, &[], &mut random())).collect();
    balancer.sample(now, &endpoints[1], Duration::from_secs(5));
    guards.retain(|(endpoint, _)| *endpoint != endpoints[1]);
    let (chosen, _guard) = balancer.pick_at(now, terms, &[], &mut random()).expect("an endpoint");
    assert_eq!(chosen, endpoints[1]);
}

fn after(consecutive_failures: u32) -> Ejection {
    Ejection {
        consecutive_failures,
        base_time: Duration::from_secs(10),
        maximum_time: Duration::from_mins(1),
        maximum_percent: 100,
    }
}

#[test]
fn an_ejected_endpoint_gets_nothing_unless_all_are_ejected() {
    let (now, endpoints, ejection) = (Instant::now(), endpoints(2), after(2));
    let terms = Terms { ejection: Some(ejection), ..by(&endpoints, Balancing::RoundRobin) };
    let mut balancer = Balancer::default();
    let mut random = random();
    let mut picks = |balancer: &mut Balancer, now| {
        let picked = |_| balancer.pick_at(now, terms, &[], &mut random).map(|(endpoint, _)| endpoint);
        (0..10).filter_map(picked).filter(|endpoint| *endpoint == endpoints[0]).count()
    };
    assert_eq!(picks(&mut balancer, now), 5);
    for _ in 0..2 {
        balancer.judged_at(now, terms, &endpoints[0], false);
    }
    assert_eq!(picks(&mut balancer, now), 0);
    assert_eq!(picks(&mut balancer, now + ejection.base_time), 5);
    for endpoint in &endpoints {
        for _ in 0..2 {
            balancer.judged_at(now, terms, endpoint, false);
        }
    }
    assert_eq!(picks(&mut balancer, now), 5, "where nothing is left, everything is tried");
}

#[test]
fn a_session_has_its_endpoint_unless_that_was_tried_or_is_ejected() {
    let (now, endpoints) = (Instant::now(), endpoints(3));
    for balancing in [Balancing::PeakEwma, Balancing::LeastRequest, Balancing::RoundRobin] {
        let terms = Terms { session: Some(1), ejection: Some(after(1)), ..by(&endpoints, balancing) };
        let mut balancer = Balancer::default();
        let mut random = random();
        let mut picks = |balancer: &mut Balancer, tried: &[Endpoint]| {
            let picked = |_| balancer.pick_at(now, terms, tried, &mut random).map(|(endpoint, _)| endpoint);
            (0..9).filter_map(picked).filter(|endpoint| *endpoint == endpoints[1]).count()
        };
        assert_eq!(picks(&mut balancer, &[]), 9);
        assert_eq!(picks(&mut balancer, &endpoints[1..2]), 0);
        balancer.judged_at(now, terms, &endpoints[1], false);
        assert_eq!(picks(&mut balancer, &[]), 0);
        for other in [&endpoints[0], &endpoints[2]] {
            balancer.judged_at(now, terms, other, false);
        }
        assert_eq!(picks(&mut balancer, &[]), 9, "where all are ejected, it stays");
    }
}
