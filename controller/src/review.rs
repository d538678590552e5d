//! The token of an agent's pod: looked at here, and only then shown to the API server (`TokenReview`).
//!
//! A node is proven by what the API server says of the token: of our audience, of the agents' service account, and bound
//! to a pod on that node. Invariant: nothing that we see ourselves proves anything; it only saves a question, so that
//! whoever forges tokens keeps nobody from joining.

mod keys;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use weft_proto::names::{Namespace, NodeName};

use crate::api::{Access, fault};
use crate::limits;
use crate::text::shortened;
use crate::trouble::Troubles;

use keys::Keys;

/// What tokens for us are made for.
pub const AUDIENCE: &str = "weft.dev/controller";
/// Of a token that is bound to a pod (KEP-4193).
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const POD_CLAIMS: [&str; 2] = ["authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"];
const ACCESS: Access = Access { verb: "create", group: "authentication.k8s.io", resource: "tokenreviews" };

/// Why a token proves nothing. The sentences go to the caller and into the log: what others say in them is quoted and short.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("this is not a service account's token")]
    NotAToken,
    #[error("the token is not for the audience {AUDIENCE}")]
    OtherAudience,
    #[error("the token has expired")]
    Expired,
    #[error("the token is signed by none of this cluster's keys")]
    OtherSigner,
    #[error("the token is of {0:?}, and agents are {1}")]
    OtherAccount(String, String),
    #[error("the API server does not believe the token: {0:?}")]
    NotBelieved(String),
    #[error("the token is bound to no node; it must be of a pod")]
    NoNode,
    #[error("the API server does not answer about the token now; try again")]
    NoAnswer,
}

/// What a token proves, and until when.
pub type Proof = Result<(NodeName, OffsetDateTime), Refused>;

pub struct Reviewer {
    client: Client,
    /// As the API server names the agents' service account.
    agents: String,
    keys: Keys,
    /// By the hash of a token: what became of it, and when that was.
    known: Mutex<HashMap<[u8; 32], (Proof, Instant)>>,
    turns: Semaphore,
    troubles: Troubles,
}

impl fmt::Debug for Reviewer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reviewer").field("agents", &self.agents).finish_non_exhaustive()
    }
}

/// As far as they save a question.
#[derive(Debug, Deserialize)]
struct Claims {
    #[serde(rename = "aud")]
    audience: Audience,
    #[serde(rename = "exp")]
    expires_unix_seconds: i64,
    #[serde(rename = "sub")]
    subject: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Reviewer {
    #[must_use]
    pub fn new(client: Client, namespace: &Namespace, service_account: &str, troubles: Troubles) -> Self {
        Self {
            keys: Keys::of(client.clone()),
            client,
            agents: format!("system:serviceaccount:{namespace}:{service_account}"),
            known: Mutex::default(),
            turns: Semaphore::new(limits::REVIEWS_IN_FLIGHT),
            troubles,
        }
    }

    pub async fn review(&self, token: &str) -> Proof {
        let token = token.trim();
        let expires = self.look(token).await?;
        let hash: [u8; 32] = Sha256::digest(token).into();
        let answered = self.known().get(&hash).filter(|(_, at)| at.elapsed() < limits::REVIEW_LIFE).cloned();
        if let Some((proof, _)) = answered {
            return proof;
        }
        let Ok(_turn) = self.turns.acquire().await else { return Err(Refused::NoAnswer) };
        let proof = self.ask(token).await.map(|node| (node, expires));
        if proof != Err(Refused::NoAnswer) {
            let mut known = self.known();
            known.retain(|_, (_, at)| at.elapsed() < limits::REVIEW_LIFE);
            if known.len() < limits::REVIEWS {
                known.insert(hash, (proof.clone(), Instant::now()));
            }
        }
        proof
    }

    /// What can be seen without asking. The end of the token's life.
    async fn look(&self, token: &str) -> Result<OffsetDateTime, Refused> {
        let claims = claims(token).ok_or(Refused::NotAToken)?;
        let ours = match &claims.audience {
            Audience::One(audience) => audience == AUDIENCE,
            Audience::Several(audiences) => audiences.iter().any(|audience| audience == AUDIENCE),
        };
        if !ours {
            return Err(Refused::OtherAudience);
        }
        let expires =
            OffsetDateTime::from_unix_timestamp(claims.expires_unix_seconds).map_err(|_| Refused::NotAToken)?;
        if expires <= OffsetDateTime::now_utc() {
            return Err(Refused::Expired);
        }
        if claims.subject != self.agents {
            return Err(Refused::OtherAccount(shortened(claims.subject), self.agents.clone()));
        }
        if self.keys.refute(token).await { Err(Refused::OtherSigner) } else { Ok(expires) }
    }

    async fn ask(&self, token: &str) -> Result<NodeName, Refused> {
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![AUDIENCE.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let status = match reviews.create(&PostParams::default(), &review).await {
            Ok(review) => review.status.unwrap_or_default(),
            Err(error) => {
                self.troubles.raise("tokens", fault(ACCESS, &error));
                return Err(Refused::NoAnswer);
            }
        };
        self.troubles.clear("tokens");
        if status.authenticated != Some(true) {
            let error = status.error.unwrap_or_else(|| "it says no more".to_owned());
            return Err(Refused::NotBelieved(shortened(error)));
        }
        // An API server that does not know audiences answers without one.
        if !status.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
            return Err(Refused::OtherAudience);
        }
        let user = status.user.unwrap_or_default();
        if user.username.as_deref() != Some(&self.agents) {
            return Err(Refused::OtherAccount(shortened(user.username.unwrap_or_default()), self.agents.clone()));
        }
        node(&user)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<[u8; 32], (Proof, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a token that is bound to a pod, and so ends with it: a token may be bound to a node alone.
fn node(user: &UserInfo) -> Result<NodeName, Refused> {
    let claim = |name: &str| match user.extra.as_ref().and_then(|extra| extra.get(name)).map(Vec::as_slice) {
        Some([value]) if !value.is_empty() => Ok(value.clone()),
        _ => Err(Refused::NoNode),
    };
    for name in POD_CLAIMS {
        claim(name)?;
    }
    claim(NODE_NAME)?.parse().map_err(|_| Refused::NoNode)
}

fn claims(token: &str) -> Option<Claims> {
    if token.len() > limits::REVIEWED_TOKEN_BYTES {
        return None;
    }
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value as Json, json};

    use super::*;

    const AGENTS: &str = "system:serviceaccount:weft-system:weft-agent";

    fn reviewer() -> Reviewer {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = Client::try_from(config).unwrap();
        Reviewer::new(client, &"weft-system".parse().unwrap(), "weft-agent", Troubles::default())
    }

    fn token(claims: &Json) -> String {
        let part = |json: &Json| URL_SAFE_NO_PAD.encode(json.to_string());
        format!("{}.{}.{}", part(&json!({"alg": "RS256", "kid": "one"})), part(claims), URL_SAFE_NO_PAD.encode("none"))
    }

    fn claimed(audience: &Json, account: &str, expires: i64) -> String {
        token(&json!({"iss": "https://cluster", "aud": audience, "sub": account, "exp": expires}))
    }

    #[tokio::test]
    async fn what_can_be_seen_in_a_token_is_never_asked() {
        let (reviewer, later) = (reviewer(), OffsetDateTime::now_utc().unix_timestamp() + 600);
        let ours = json!([AUDIENCE]);
        for (token, refused) in [
            ("a.b".to_owned(), Refused::NotAToken),
            ("a.b.c.d".to_owned(), Refused::NotAToken),
            ("x".repeat(limits::REVIEWED_TOKEN_BYTES + 1), Refused::NotAToken),
            (claimed(&json!(["other"]), AGENTS, later), Refused::OtherAudience),
            (claimed(&ours, AGENTS, 1), Refused::Expired),
            (claimed(&ours, "admin", later), Refused::OtherAccount("admin".to_owned(), AGENTS.to_owned())),
            // Nobody answers there: what is left is a question, and no answer is no proof.
            (claimed(&json!(AUDIENCE), AGENTS, later), Refused::NoAnswer),
        ] {
            assert_eq!(reviewer.review(&token).await, Err(refused), "{token}");
        }
        assert!(reviewer.known().is_empty(), "that nobody answered was taken for an answer");
    }

    #[tokio::test]
    async fn a_token_writes_nothing_of_its_own_into_the_log() {
        let (reviewer, later) = (reviewer(), OffsetDateTime::now_utc().unix_timestamp() + 600);
        let forged = format!("x\n2026-01-01T00:00:00Z  INFO a node joined node=\u{1b}[0m{}", "y".repeat(4_000));
        let refused = reviewer.review(&claimed(&json!([AUDIENCE]), &forged, later)).await.unwrap_err().to_string();
        assert!(refused.contains(r#"is of "x\n2026-01-01"#) && !refused.contains(char::is_control), "{refused}");
        assert!(refused.len() < 2 * limits::REASON_BYTES, "{refused}");
        let unbelieved = Refused::NotBelieved("no\nyes".to_owned()).to_string();
        assert!(!unbelieved.contains('\n'), "{unbelieved}");
    }

    #[test]
    fn a_node_is_that_of_the_pod_that_a_token_is_bound_to() {
        let user = |claims: &[(&str, &[&str])]| {
            let claims = claims.iter().map(|(name, values)| {
                let values = values.iter().map(ToString::to_string).collect();
                (format!("authentication.kubernetes.io/{name}"), values)
            });
            UserInfo { extra: Some(claims.collect::<BTreeMap<_, _>>()), ..UserInfo::default() }
        };
        let pod: [(&str, &[&str]); 2] = [("pod-name", &["agent"]), ("pod-uid", &["1"])];
        assert_eq!(node(&user(&[&pod[..], &[("node-name", &["one"])]].concat())), Ok("one".parse().unwrap()));
        for claims in [
            &[("node-name", &["one"][..])][..],
            &[pod[0], ("node-name", &["one"])],
            &[pod[1], ("node-name", &["one"])],
            &pod,
            &[pod[0], pod[1], ("node-name", &["one", "two"])],
            &[pod[0], pod[1], ("node-name", &[""])],
        ] {
            assert_eq!(node(&user(claims)), Err(Refused::NoNode), "{claims:?}");
        }
    }
}
