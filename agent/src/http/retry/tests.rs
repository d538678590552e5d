//! What is sent again, and for how long a storm of failures is paid for.

use proptest::prelude::*;
use weft_policy::PathPattern;

use super::*;
use crate::model::RetryWindows;

fn policy(backoff_milliseconds: u64) -> RetryPolicy {
    RetryPolicy {
        attempts: 3,
        statuses: vec![StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE],
        grpc_statuses: vec![14],
        grpc_calls: Some(vec![PathPattern::grpc(Some("shop.Cart"), Some("Get")).unwrap()]),
        backoff: (backoff_milliseconds > 0).then(|| Duration::from_millis(backoff_milliseconds)),
    }
}

#[test]
fn what_is_asked_for_is_tried_again_and_what_might_happen_twice_is_not() {
    let answered = |status: u16| Outcome::Answered(StatusCode::from_u16(status).unwrap(), None);
    let rows = [
        (Method::GET, answered(503), true),
        (Method::POST, answered(503), true),
        (Method::GET, answered(500), false),
        (Method::GET, answered(200), false),
        (Method::GET, Outcome::Failed(Reason::UpstreamReset), true),
        (Method::HEAD, Outcome::Failed(Reason::RequestTimeout), true),
        (Method::PUT, Outcome::Failed(Reason::UpstreamReset), true),
        (Method::DELETE, Outcome::Failed(Reason::UpstreamReset), true),
        (Method::POST, Outcome::Failed(Reason::UpstreamReset), false),
        (Method::PATCH, Outcome::Failed(Reason::RequestTimeout), false),
        (Method::CONNECT, Outcome::Failed(Reason::UpstreamReset), false),
        (Method::from_bytes(b"PURGE").unwrap(), Outcome::Failed(Reason::UpstreamReset), false),
        // Another attempt would end the same way.
        (Method::GET, Outcome::Failed(Reason::DeniedByRule), false),
        (Method::GET, Outcome::Failed(Reason::MeshTlsRequired), false),
    ];
    for (method, outcome, expected) in rows {
        let asked = Asked { method, call: None };
        assert_eq!(may_retry(&policy(0), &asked, outcome), expected, "{asked:?} {outcome:?}");
    }
}

#[test]
fn calls_that_a_policy_names_are_tried_again_when_they_are_lost() {
    let answered = |code| Outcome::Answered(StatusCode::OK, Some(code));
    let lost = Outcome::Failed(Reason::UpstreamReset);
    let rows = [
        ("/shop.Cart/Get", answered(14), true),
        ("/shop.Cart/Get", answered(13), false),
        ("/shop.Cart/Get", answered(0), false),
        ("/shop.Cart/Get", lost, true),
        // The policy does not name what a client is told of a time-out.
        ("/shop.Cart/Get", Outcome::Failed(Reason::RequestTimeout), false),
        ("/shop.Cart/Get", Outcome::Unsent(Reason::UpstreamRefused), true),
        ("/shop.Cart/Add", answered(14), false),
        ("/shop.Cart/Add", lost, false),
        ("/shop.Cart/Add", Outcome::Unsent(Reason::UpstreamRefused), false),
    ];
    for (path, outcome, expected) in rows {
        let asked = Asked { method: Method::POST, call: Some(path.parse().unwrap()) };
        assert_eq!(may_retry(&policy(0), &asked, outcome), expected, "{path} {outcome:?}");
    }
}

fn share(percent: u32, minimum: u32) -> RetryBudget {
    RetryBudget { percent, minimum, ..RetryBudget::default() }
}

#[test]
fn a_constraint_counts_over_its_own_times() {
    let begin = Instant::now();
    let at = |seconds: u64| begin + Duration::from_secs(seconds);
    let paid = |budget: &mut Budget, terms, now| (0..1000).filter(|_| budget.pays(terms, now)).count();
    let windows = RetryWindows { share: Duration::from_mins(10), minimum: Duration::from_mins(1) };
    let terms = |percent, minimum| RetryBudget { percent, windows, minimum, refuses: true };
    let mut budget = Budget::default();
    (0..100).for_each(|_| budget.earned(terms(20, 0), at(0)));
    assert_eq!(paid(&mut budget, terms(20, 0), at(599)), 20, "requests count for ten minutes");
    let mut budget = Budget::default();
    (0..100).for_each(|_| budget.earned(terms(20, 0), at(0)));
    assert_eq!(paid(&mut budget, terms(20, 0), at(600)), 0, "and no longer");
    let mut budget = Budget::default();
    assert_eq!([0, 59, 60].map(|second| paid(&mut budget, terms(0, 2), at(second))), [2, 0, 2], "two a minute");
}

#[test]
fn a_budget_pays_a_share_and_a_least_number() {
    let begin = Instant::now();
    let at = |seconds: u64| begin + Duration::from_secs(seconds);
    let paid = |budget: &mut Budget, terms, now| (0..1000).filter(|_| budget.pays(terms, now)).count();
    let fifth = share(20, 0);
    let mut budget = Budget::default();
    (0..100).for_each(|_| budget.earned(fifth, at(0)));
    assert_eq!(paid(&mut budget, fifth, at(9)), 20);
    // The window has left the requests behind, and not yet the retries.
    (0..100).for_each(|_| budget.earned(fifth, at(10)));
    assert_eq!(paid(&mut budget, fifth, at(10)), 0);
    assert_eq!(paid(&mut budget, fifth, at(19)), 20);
    let least = share(0, 3);
    let mut budget = Budget::default();
    assert_eq!(paid(&mut budget, least, at(0)), 3);
    assert_eq!(paid(&mut budget, least, at(0)), 0);
    assert_eq!(paid(&mut budget, least, at(1)), 3);
    assert_eq!(paid(&mut budget, share(0, 0), at(2)), 0);
}

#[test]
fn a_long_silence_leaves_nothing_behind() {
    let begin = Instant::now();
    let terms = share(100, 0);
    let mut budget = Budget::default();
    budget.earned(terms, begin);
    assert!(!budget.pays(terms, begin + Duration::from_hours(100)));
}

proptest! {
    #[test]
    fn retries_never_exceed_the_share_of_late_requests_and_the_least_number(
        steps in prop::collection::vec((0_u64..3, 0_u32..20, 0_u32..20), 1..60),
        percent in 0_u32..=100,
        minimum in 0_u32..5,
    ) {
        let terms = share(percent, minimum);
        let begin = Instant::now();
        let mut budget = Budget::default();
        let (mut second, mut log) = (0, Vec::new());
        for (passed, requests, wishes) in steps {
            second += passed;
            let now = begin + Duration::from_secs(second);
            (0..requests).for_each(|_| budget.earned(terms, now));
            let paid = (0..wishes).filter(|_| budget.pays(terms, now)).count() as u64;
            log.push((second, u64::from(requests), paid));
            // A retry that was rightly paid stays in the window after the requests that earned it have left.
            let requests: u64 = log.iter().filter(|(at, _, _)| at + 20 > second).map(|(_, asked, _)| asked).sum();
            let retries: u64 = log.iter().filter(|(at, _, _)| at + 10 > second).map(|(_, _, paid)| paid).sum();
            prop_assert!(retries <= requests * u64::from(percent) / 100 + 10 * u64::from(minimum));
        }
    }

    #[test]
    fn a_pause_is_at_least_what_the_policy_says_and_bounded(wanted in 0_u64..5000, number in 1_u32..1000) {
        let policy = policy(wanted);
        let least = policy.backoff.unwrap_or(limits::RETRY_BACKOFF);
        let pause = backoff(&policy, number, &mut rand::rng());
        prop_assert!(pause >= least);
        prop_assert!(pause <= least.max(limits::RETRY_BACKOFF_MAXIMUM).mul_f64(1.5));
        let first = backoff(&policy, 1, &mut rand::rng());
        prop_assert!(first <= least.mul_f64(1.5));
    }
}
