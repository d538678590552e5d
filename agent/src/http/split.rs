//! Which backend of a rule takes a request.

use std::sync::Arc;

use rand::{Rng, RngExt as _};

use crate::model::{Backend, BackendTarget};

/// Why none takes it: 500, or UNAVAILABLE for gRPC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoBackend {
    #[error("the rule has no backend")]
    Absent,
    #[error("all backends of the rule have weight 0")]
    Weightless,
    #[error("{0}")]
    Invalid(Arc<str>),
}

/// One backend, each by its share of the sum of all weights. An invalid one keeps its share, whose requests are refused:
/// its siblings get no more than was written.
pub fn pick<'a>(backends: &'a [Backend], random: &mut impl Rng) -> Result<&'a Backend, NoBackend> {
    if backends.is_empty() {
        return Err(NoBackend::Absent);
    }
    let sum: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    if sum == 0 {
        return Err(NoBackend::Weightless);
    }
    at(backends, random.random_range(0..sum))
}

/// The backend in whose share `place` lies.
fn at(backends: &[Backend], mut place: u64) -> Result<&Backend, NoBackend> {
    for backend in backends {
        let weight = u64::from(backend.weight);
        if place >= weight {
            place -= weight;
            continue;
        }
        return match &backend.target {
            BackendTarget::Service { .. } => Ok(backend),
            BackendTarget::Invalid(why) => Err(NoBackend::Invalid(Arc::clone(why))),
        };
    }
    Err(NoBackend::Weightless)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backend(weight: u32, invalid: bool) -> Backend {
        let service = "shop/web".parse().expect("a name");
        let target = if invalid {
            BackendTarget::Invalid("Service shop/gone does not exist".into())
        } else {
            BackendTarget::Service { service, port: 80 }
        };
        Backend { weight, target, filters: Vec::new(), session: None }
    }

    #[test]
    fn a_rule_without_a_usable_backend_says_why() {
        let reason = |backends: &[Backend]| pick(backends, &mut rand::rng()).map(|_| ()).unwrap_err().to_string();
        assert_eq!(reason(&[]), "the rule has no backend");
        assert_eq!(reason(&[backend(0, false), backend(0, true)]), "all backends of the rule have weight 0");
        assert_eq!(reason(&[backend(0, false), backend(1, true)]), "Service shop/gone does not exist");
    }

    #[test]
    fn an_invalid_backend_without_weight_costs_nothing() {
        let backends = [backend(0, true), backend(1, false)];
        assert_eq!(pick(&backends, &mut rand::rng()), Ok(&backends[1]));
    }

    proptest! {
        #[test]
        fn each_backend_has_exactly_its_share(weights in prop::collection::vec((0_u32..20, any::<bool>()), 1..6)) {
            let backends: Vec<_> = weights.iter().map(|(weight, invalid)| backend(*weight, *invalid)).collect();
            let sum: u64 = weights.iter().map(|(weight, _)| u64::from(*weight)).sum();
            let mut refused = 0;
            let mut taken = vec![0_u64; backends.len()];
            for place in 0..sum {
                match at(&backends, place) {
                    Ok(chosen) => {
                        let index = backends.iter().position(|backend| std::ptr::eq(backend, chosen)).expect("one of them");
                        taken[index] += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
            for ((weight, invalid), taken) in weights.iter().zip(taken) {
                prop_assert_eq!(taken, if *invalid { 0 } else { u64::from(*weight) });
            }
            let invalid: u64 = weights.iter().filter(|(_, invalid)| *invalid).map(|(weight, _)| u64::from(*weight)).sum();
            prop_assert_eq!(refused, invalid);
        }
    }
}
