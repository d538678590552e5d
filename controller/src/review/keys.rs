//! The keys by which the API server signs tokens, so that forged ones are told without asking it.
//!
//! Invariant: without keys nothing is refuted. Absent: who issued a token and what it says; that is the API server's word.

use std::time::Instant;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use kube::Client;
use serde::de::IgnoredAny;
use tokio::sync::Mutex;

use crate::limits;

pub struct Keys {
    client: Client,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// None: the API server does not tell them.
    keys: Option<JwkSet>,
    asked: Option<Instant>,
}

impl Keys {
    pub fn of(client: Client) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// The token is not of this cluster, for certain.
    pub async fn refute(&self, token: &str) -> bool {
        let mut known = self.known.lock().await;
        // Keys change now and then: those that we know may be old.
        if !known.keys.as_ref().is_some_and(|keys| signs(keys, token))
            && known.asked.is_none_or(|asked| asked.elapsed() >= limits::KEYS_INTERVAL)
        {
            known.asked = Some(Instant::now());
            if let Some(keys) = self.ask().await {
                known.keys = Some(keys);
            }
        }
        known.keys.as_ref().is_some_and(|keys| !signs(keys, token))
    }

    async fn ask(&self) -> Option<JwkSet> {
        let request = http::Request::get("/openid/v1/jwks").body(Vec::new()).ok()?;
        let asking = self.client.request::<JwkSet>(request);
        match tokio::time::timeout(limits::API_CONNECT_TIMEOUT, asking).await.ok()? {
            Ok(keys) => Some(keys),
            Err(error) => {
                tracing::debug!(%error, "the API server does not tell the keys of its tokens; each token is a question");
                None
            }
        }
    }
}

/// One of the keys has signed it; or might have, by a method that we cannot judge.
fn signs(keys: &JwkSet, token: &str) -> bool {
    let Ok(header) = decode_header(token) else { return !keys.keys.iter().all(is_judged) };
    let mut validation = Validation::new(header.alg);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let named = |key: &&Jwk| header.kid.is_none() || key.common.key_id == header.kid;
    keys.keys.iter().filter(named).any(|key| {
        let Ok(known) = DecodingKey::from_jwk(key) else { return true };
        !is_judged(key) || decode::<IgnoredAny>(token, &known, &validation).is_ok()
    })
}

/// Signatures of the key can be verified here.
fn is_judged(key: &Jwk) -> bool {
    let unknown = matches!(&key.algorithm, AlgorithmParameters::Other(_));
    let large =
        matches!(&key.algorithm, AlgorithmParameters::EllipticCurve(point) if point.curve == EllipticCurve::P521);
    !unknown && !large
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use rcgen::{KeyPair, PublicKeyData as _};
    use serde_json::json;

    use super::*;

    fn keys(key: &KeyPair, curve: &str) -> JwkSet {
        // An uncompressed point: 0x04 and two coordinates.
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&key.der_bytes()[range]);
        let (x, y) = (part(1..33), part(33..65));
        let key = json!({"kty": "EC", "crv": curve, "x": x, "y": y, "kid": "one", "alg": "ES256", "use": "sig"});
        serde_json::from_value(json!({"keys": [key]})).unwrap()
    }

    fn token(key: &KeyPair, named: Option<&str>) -> String {
        let header = Header { kid: named.map(str::to_owned), ..Header::new(Algorithm::ES256) };
        encode(&header, &json!({"sub": "web"}), &EncodingKey::from_ec_der(&key.serialize_der())).unwrap()
    }

    #[test]
    fn a_token_is_signed_by_one_of_the_keys_or_it_is_forged() {
        let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let keys = keys(&own, "P-256");
        let good = token(&own, Some("one"));
        assert!(signs(&keys, &good) && signs(&keys, &token(&own, None)));
        assert!(!signs(&keys, &token(&other, Some("one"))) && !signs(&keys, &token(&own, Some("two"))));
        let parts: Vec<&str> = good.split('.').collect();
        let changed = URL_SAFE_NO_PAD.encode(json!({"sub": "admin"}).to_string());
        assert!(!signs(&keys, &format!("{}.{changed}.{}", parts[0], parts[2])));
        let unsigned = URL_SAFE_NO_PAD.encode(json!({"alg": "none", "kid": "one"}).to_string());
        assert!(!signs(&keys, &format!("{unsigned}.{}.", parts[1])));
    }

    #[test]
    fn a_key_of_a_kind_that_cannot_be_judged_refutes_nothing() {
        let own = KeyPair::generate().unwrap();
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "ES512", "kid": "one"}).to_string());
        let token = format!("{header}.e30.e30");
        assert!(signs(&keys(&own, "P-521"), &token), "a cluster with such keys has no agents");
        assert!(!signs(&keys(&own, "P-256"), &token));
    }
}
