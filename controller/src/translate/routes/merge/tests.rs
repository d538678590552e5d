use proptest::prelude::*;
use weft_proto::v1::{PathMatch, PathMatchKind, RouteMatch, ValueMatch};

use super::*;

/// What is compared of one match, as Gateway API names it.
#[derive(Debug, Clone)]
struct Case {
    kind: PathMatchKind,
    path: String,
    method: bool,
    headers: usize,
    query: usize,
    created: Option<i64>,
    name: &'static str,
    rule: usize,
    position: usize,
}

fn case() -> impl Strategy<Value = Case> {
    let kind =
        prop_oneof![Just(PathMatchKind::Exact), Just(PathMatchKind::Prefix), Just(PathMatchKind::RegularExpression)];
    let path = prop_oneof![Just("/"), Just("/a"), Just("/a/b")].prop_map(str::to_owned);
    let values = (any::<bool>(), 0_usize..3, 0_usize..3);
    let route = (proptest::option::of(1_i64..3), prop_oneof![Just("a"), Just("b")], 0_usize..2, 0_usize..2);
    (kind, path, values, route).prop_map(|(kind, path, (method, headers, query), (created, name, rule, position))| {
        Case { kind, path, method, headers, query, created, name, rule, position }
    })
}

impl Case {
    fn metadata(&self) -> Metadata {
        let created = self.created.map(|second| Timestamp::from_second(second).unwrap());
        Metadata { name: self.name.to_owned(), namespace: "shop".to_owned(), created, ..Metadata::default() }
    }

    fn specificity(&self) -> Specificity {
        let value = |index: usize| ValueMatch { name: index.to_string(), ..ValueMatch::default() };
        Specificity::of_http(&RouteMatch {
            path: Some(PathMatch { kind: self.kind.into(), value: self.path.clone() }),
            method: if self.method { "GET".to_owned() } else { String::new() },
            headers: (0..self.headers).map(value).collect(),
            query: (0..self.query).map(value).collect(),
            ..RouteMatch::default()
        })
    }

    /// The rules of precedence one by one, as a person reads them; true: `self` must go before `other`.
    fn goes_first(&self, other: &Self) -> Option<bool> {
        let class = |case: &Self| match case.kind {
            PathMatchKind::Exact => 0,
            PathMatchKind::Prefix if case.path != "/" => 1,
            PathMatchKind::RegularExpression => 2,
            PathMatchKind::Prefix | PathMatchKind::GrpcMethod | PathMatchKind::Unspecified => 3,
        };
        let criteria = |case: &Self| {
            let length = if class(case) == 1 { case.path.len() } else { 0 };
            [4 - class(case), length, usize::from(case.method), case.headers, case.query]
        };
        for (mine, theirs) in criteria(self).into_iter().zip(criteria(other)) {
            if mine != theirs {
                return Some(mine > theirs);
            }
        }
        let age = |case: &Self| case.created.unwrap_or(i64::MAX);
        let ties = |case: &Self| (age(case), case.name, case.rule, case.position);
        (ties(self) != ties(other)).then(|| ties(self) < ties(other))
    }
}

proptest! {
    /// Any two matches are in the order that Gateway API's rules give, and in that order both ways.
    #[test]
    fn the_order_is_total_and_gateway_apis(cases in proptest::collection::vec(case(), 2..12)) {
        let metadata: Vec<Metadata> = cases.iter().map(Case::metadata).collect();
        let precedence: Vec<Precedence<'_>> = cases.iter().zip(&metadata).map(|(case, metadata)| {
            let (rule, position) = (case.rule, case.position);
            Precedence { specificity: case.specificity(), age: Age::of(metadata), rule, position }
        }).collect();
        for (one, left) in cases.iter().zip(&precedence) {
            for (other, right) in cases.iter().zip(&precedence) {
                let expected = match one.goes_first(other) {
                    Some(true) => std::cmp::Ordering::Less,
                    Some(false) => std::cmp::Ordering::Greater,
                    None => std::cmp::Ordering::Equal,
                };
                prop_assert_eq!(left.cmp(right), expected, "{:?} and {:?}", one, other);
            }
        }
    }
}
