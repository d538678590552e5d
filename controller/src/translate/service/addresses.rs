//! Which addresses lead to which Service.
//!
//! A cluster address beats a balancer's, which a controller has written, and that beats an external one, which anybody may
//! claim who may write a Service; a pod's address is never a Service's. Several Services may share an address outside of the
//! cluster if they have no port in common.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::address::{Owners, octets};
use crate::limits;
use crate::object::{ClusterAddress, Service};
use crate::store::{Name, Objects};

/// Of every Service that names addresses.
#[derive(Debug, Default)]
pub struct Addresses(BTreeMap<Name, Own>);

/// A Service's own, as they travel.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Own {
    pub cluster: Vec<Vec<u8>>,
    pub external: Vec<Vec<u8>>,
    /// Sentences about others, that it has not got.
    pub refused: Vec<String>,
}

const NONE: &Own = &Own { cluster: Vec::new(), external: Vec::new(), refused: Vec::new() };

/// Who says that an address is theirs.
#[derive(Default)]
struct Claims<'a> {
    cluster: Vec<&'a Name>,
    /// Outside of the cluster, by name: the strongest word of each.
    outside: BTreeMap<&'a Name, (Word, &'a Service)>,
}

/// Whose word a claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Anybodys,
    Controllers,
}

impl Addresses {
    pub fn of(objects: &Objects, owners: &Owners) -> Self {
        let mut claims: BTreeMap<IpAddr, Claims<'_>> = BTreeMap::new();
        for (name, service) in objects.services() {
            for address in &service.addresses {
                let (address, word) = match address {
                    ClusterAddress::Cluster(address) => {
                        claims.entry(*address).or_default().cluster.push(name);
                        continue;
                    }
                    ClusterAddress::Balancer(address) => (*address, Word::Controllers),
                    ClusterAddress::External(address) => (*address, Word::Anybodys),
                };
                let claim = claims.entry(address).or_default().outside.entry(name).or_insert((word, service));
                claim.0 = claim.0.max(word);
            }
        }
        let mut addresses = Self::default();
        for (address, claims) in claims {
            addresses.judge(address, &claims, owners.is_pods(address));
        }
        addresses
    }

    fn judge(&mut self, address: IpAddr, claims: &Claims<'_>, is_pods: bool) {
        let all = || claims.cluster.iter().copied().chain(claims.outside.keys().copied());
        let several = "claimed by several Services, and leads to none of them";
        if is_pods {
            return self.refuse(address, all(), "a pod's address");
        }
        match claims.cluster.as_slice() {
            [] => {
                let strongest = strongest(claims);
                for (name, (word, service)) in &claims.outside {
                    let loses = ports(service).any(|port| {
                        let (best, names) = &strongest[&port];
                        names.len() > 1 && names.contains(name) || best > word
                    });
                    if loses {
                        self.refuse(address, [*name].into_iter(), several);
                    } else {
                        self.0.entry((*name).clone()).or_default().external.push(octets(address));
                    }
                }
            }
            [name] => {
                let others = claims.outside.keys().copied().filter(|other| other != name);
                self.refuse(address, others, "another Service's cluster address");
                self.0.entry((*name).clone()).or_default().cluster.push(octets(address));
            }
            _ => self.refuse(address, all(), several),
        }
    }

    fn refuse<'a>(&mut self, address: IpAddr, claimants: impl Iterator<Item = &'a Name>, why: &str) {
        for name in claimants {
            let sentence = format!("its address {address} is refused: it is {why}");
            self.0.entry(name.clone()).or_default().refused.push(sentence);
        }
    }

    pub fn of_service(&self, name: &Name) -> &Own {
        self.0.get(name).unwrap_or(NONE)
    }

    /// Services of whose addresses something else is true there.
    pub fn others<'a>(&'a self, there: &'a Self) -> impl Iterator<Item = &'a Name> {
        self.0.keys().chain(there.0.keys()).filter(|name| self.of_service(name) != there.of_service(name))
    }
}

/// For each port the strongest word about it, and whose that is.
fn strongest<'a>(claims: &Claims<'a>) -> BTreeMap<u16, (Word, BTreeSet<&'a Name>)> {
    let mut strongest: BTreeMap<u16, (Word, BTreeSet<&Name>)> = BTreeMap::new();
    for (name, (word, service)) in &claims.outside {
        for port in ports(service) {
            let (best, names) = strongest.entry(port).or_insert((*word, BTreeSet::new()));
            if word > best {
                (*best, *names) = (*word, BTreeSet::new());
            }
            if word == best {
                names.insert(name);
            }
        }
    }
    strongest
}

/// Those that agents get.
fn ports(service: &Service) -> impl Iterator<Item = u16> {
    service.ports.iter().take(limits::PORTS_PER_SERVICE).map(|port| port.port)
}
