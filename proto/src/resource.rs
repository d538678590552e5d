//! Names and content hashes of resources, the same on both sides of `Discovery`.

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::v1::{Resource, resource::Body};

/// Bytes of SHA-256 that make a version: 128 bits, so that two contents never share one by chance.
pub const VERSION_LENGTH: usize = 16;

/// In so many parts an agent says what it holds: one that differs costs the names of some 80 resources in 20,000.
pub const SHARDS: usize = 256;
/// Bytes of the digest of a shard that is not empty: a whole SHA-256, so that nobody finds two sets that have the same.
pub const SHARD_DIGEST_LENGTH: usize = 32;

/// The resource named `settings`: one per mesh.
pub const SETTINGS: &str = "settings";
/// The resource named `trust`: one per mesh.
pub const TRUST: &str = "trust";

#[must_use]
pub fn workload(uid: &str) -> String {
    format!("workload/{uid}")
}

#[must_use]
pub fn enrolment(uid: &str) -> String {
    format!("enrolment/{uid}")
}

#[must_use]
pub fn observation(uid: &str) -> String {
    format!("observation/{uid}")
}

#[must_use]
pub fn service(namespace: &str, name: &str) -> String {
    format!("service/{namespace}/{name}")
}

#[must_use]
pub fn namespace(name: &str) -> String {
    format!("namespace/{name}")
}

#[must_use]
pub fn node(name: &str) -> String {
    format!("node/{name}")
}

#[must_use]
pub fn authorization(namespace: &str, name: &str) -> String {
    format!("authorization/{namespace}/{name}")
}

/// Routes of a Service port for the clients of one namespace, or for everybody.
#[must_use]
pub fn routes(namespace: &str, service: &str, port: u16, audience: Option<&str>) -> String {
    of_port("routes", namespace, service, port, audience)
}

/// Balancing of a Service port for the clients of one namespace, or for everybody.
#[must_use]
pub fn traffic(namespace: &str, service: &str, port: u16, audience: Option<&str>) -> String {
    of_port("traffic", namespace, service, port, audience)
}

fn of_port(kind: &str, namespace: &str, service: &str, port: u16, audience: Option<&str>) -> String {
    let audience = audience.map(|audience| format!("/{audience}")).unwrap_or_default();
    format!("{kind}/{namespace}/{service}/{port}{audience}")
}

/// Makes a resource with its content hash.
#[must_use]
pub fn versioned(name: String, requires: Vec<String>, body: Body) -> Resource {
    let mut resource = Resource { name, version: Vec::new(), requires, body: Some(body) };
    resource.version = content_version(&resource);
    resource
}

/// The version that the content of `resource` has, whatever its `version` field says.
#[must_use]
pub fn content_version(resource: &Resource) -> Vec<u8> {
    let content = Resource { version: Vec::new(), ..resource.clone() };
    Sha256::digest(content.encode_to_vec())[..VERSION_LENGTH].to_vec()
}

/// What one resource adds to the name of a snapshot that it is in.
#[must_use]
pub fn digest(name: &str, version: &[u8]) -> u64 {
    let digest = Sha256::new().chain_update(name).chain_update([0]).chain_update(version).finalize();
    digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A short name for a whole set of resources: the exclusive-or of their digests, independent of order.
#[must_use]
pub fn snapshot_version<'a>(resources: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    snapshot_name(resources.fold(0, |sum, (name, version)| sum ^ digest(name, version)))
}

/// As `snapshot_version`, of digests that were summed up already.
#[must_use]
pub fn snapshot_name(sum: u64) -> String {
    format!("{sum:016x}")
}

/// The part that a resource belongs to, whatever its version.
#[must_use]
pub fn shard(name: &str) -> u8 {
    Sha256::digest(name)[0]
}

/// The digest of each shard of a set of names and versions, in which no name is twice. See `Hello` in `discovery.proto`.
#[must_use]
pub fn shards<'a>(resources: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<Vec<u8>> {
    let mut shards = vec![Vec::new(); SHARDS];
    for resource in resources {
        shards[usize::from(shard(resource.0))].push(resource);
    }
    shards.into_iter().map(of_shard).collect()
}

/// With every length before its text: names are made of what users write, and must not make one set look like another.
fn of_shard(mut resources: Vec<(&str, &[u8])>) -> Vec<u8> {
    if resources.is_empty() {
        return Vec::new();
    }
    resources.sort_unstable();
    let mut digest = Sha256::new();
    for part in resources.into_iter().flat_map(|(name, version)| [name.as_bytes(), version]) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::Settings;

    #[test]
    fn a_version_follows_the_content_alone() {
        let body = |domain: &str| Body::Settings(Settings { trust_domain: domain.to_owned(), ..Settings::default() });
        let one = versioned(SETTINGS.to_owned(), vec![], body("a"));
        assert_eq!(one.version, versioned(SETTINGS.to_owned(), vec![], body("a")).version);
        assert_ne!(one.version, versioned(SETTINGS.to_owned(), vec![], body("b")).version);
        assert_ne!(one.version, versioned(SETTINGS.to_owned(), vec!["x".to_owned()], body("a")).version);
        assert_eq!(one.version, content_version(&one));
    }

    #[test]
    fn a_snapshot_is_named_by_its_set_not_by_its_order() {
        let forward = snapshot_version([("a", &[1_u8][..]), ("b", &[2][..])].into_iter());
        let backward = snapshot_version([("b", &[2_u8][..]), ("a", &[1][..])].into_iter());
        assert_eq!(forward, backward);
        assert_ne!(forward, snapshot_version([("a", &[2_u8][..]), ("b", &[1][..])].into_iter()));
    }
    #[test]
    fn what_is_in_a_shard_changes_its_digest_alone() {
        let of = |set: &[(&'static str, &'static [u8])]| shards(set.iter().copied());
        assert_eq!(of(&[]), vec![Vec::<u8>::new(); SHARDS]);
        let one = of(&[("workload/a", b"1"), ("workload/b", b"1")]);
        assert_eq!(one, of(&[("workload/b", b"1"), ("workload/a", b"1")]));
        let other = of(&[("workload/a", b"1"), ("workload/b", b"2")]);
        let differ: Vec<usize> = (0..SHARDS).filter(|number| one[*number] != other[*number]).collect();
        assert_eq!(differ, [usize::from(shard("workload/b"))]);
        assert_eq!(one[differ[0]].len(), SHARD_DIGEST_LENGTH);
    }

    #[test]
    fn no_set_looks_like_another() {
        let digests: Vec<_> = [
            vec![("ab", &b"c"[..])],
            vec![("a", b"bc")],
            vec![("a", b""), ("b", b"c")],
            vec![("a", b"b"), ("c", b"")],
            vec![("abc", b"")],
        ]
        .into_iter()
        .map(of_shard)
        .collect();
        assert!(digests.iter().enumerate().all(|(at, digest)| !digests[..at].contains(digest)));
    }
}
