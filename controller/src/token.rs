//! Join tokens: a secret that makes one node's first certificate. Stored as a hash, good for one node, for a while, and
//! from its first use on for the key of that use alone: whoever reads a used token can do nothing with it, and a join
//! whose answer was lost can be tried again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rand::TryRng as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;
use weft_proto::names::NodeName;

use crate::hexadecimal::hexadecimal;
use crate::limits;
use crate::state;

/// What is kept of a token.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    node: String,
    sha256: String,
    expires_unix_seconds: i64,
    /// Of the public key that it was first used for.
    #[serde(default)]
    key_sha256: Option<String>,
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// For the key, until then.
    Good(OffsetDateTime),
    Expired,
    /// It has been used for another key.
    Spent,
}

/// The tokens of a state directory; read at each use, so that a new one is good at once.
#[derive(Debug, Clone)]
pub struct Tokens {
    folder: PathBuf,
    /// Two first uses at once must not both be the first.
    using: Arc<Mutex<()>>,
}

impl Tokens {
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self { folder: state_dir.join("tokens"), using: Arc::default() }
    }

    /// Makes a token for `node`, in place of any that it had. It is shown once and never stored.
    pub fn create(&self, node: &NodeName, life: Duration, now: OffsetDateTime) -> anyhow::Result<String> {
        let mut secret = [0_u8; limits::TOKEN_BYTES];
        rand::rngs::SysRng.try_fill_bytes(&mut secret).context("the system has no random bytes")?;
        let token = hexadecimal(&secret);
        let stored = Stored {
            node: node.to_string(),
            sha256: hexadecimal(&digest(token.as_bytes())),
            expires_unix_seconds: (now + life).unix_timestamp(),
            key_sha256: None,
        };
        state::create_folder(&self.folder)?;
        state::replace(&self.file(node), &serde_json::to_vec_pretty(&stored)?)?;
        Ok(token)
    }

    /// Uses the token of this node for a public key, if it is `token` (else None). Takes as long for a wrong one as for a
    /// right one. The key is remembered before anybody learns that the token was good.
    pub fn redeem(
        &self,
        node: &NodeName,
        token: &str,
        public_key: &[u8],
        now: OffsetDateTime,
    ) -> anyhow::Result<Option<Use>> {
        if token.len() > limits::TOKEN_TEXT_BYTES {
            return Ok(None);
        }
        let _one_at_a_time = self.using.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = self.stored(node);
        let expected = stored.as_ref().map_or("", |stored| stored.sha256.as_str());
        let found = hexadecimal(&digest(token.trim().as_bytes()));
        let same = bool::from(found.as_bytes().ct_eq(expected.as_bytes()));
        let Some(mut stored) = stored.filter(|stored| same && stored.node == node.as_str()) else { return Ok(None) };
        let until = OffsetDateTime::from_unix_timestamp(stored.expires_unix_seconds)?;
        if until <= now {
            return Ok(Some(Use::Expired));
        }
        let key = hexadecimal(&digest(public_key));
        match &stored.key_sha256 {
            Some(first) if *first == key => {}
            Some(_) => return Ok(Some(Use::Spent)),
            None => {
                stored.key_sha256 = Some(key);
                state::replace(&self.file(node), &serde_json::to_vec_pretty(&stored)?)?;
            }
        }
        Ok(Some(Use::Good(until)))
    }

    fn stored(&self, node: &NodeName) -> Option<Stored> {
        serde_json::from_slice(&std::fs::read(self.file(node)).ok()?).ok()
    }

    fn file(&self, node: &NodeName) -> PathBuf {
        self.folder.join(format!("{node}.json"))
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_node_alone_and_not_found_in_the_state() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::of(folder.path());
        let (one, two): (NodeName, NodeName) = ("one".parse().unwrap(), "two".parse().unwrap());
        let now = OffsetDateTime::UNIX_EPOCH;
        let token = tokens.create(&one, Duration::from_mins(1), now).unwrap();
        tokens.create(&two, Duration::from_mins(1), now).unwrap();
        let redeem = |node: &NodeName, token: &str| tokens.redeem(node, token, b"key", now).unwrap();
        let good = Some(Use::Good(now + Duration::from_mins(1)));
        assert_eq!(redeem(&two, &token), None);
        assert_eq!(redeem(&one, ""), None);
        assert_eq!(redeem(&"three".parse().unwrap(), ""), None);
        assert_eq!(redeem(&one, &token), good);
        assert_eq!(redeem(&one, &format!("{token}\n")), good, "files end with a line feed");
        let stored = std::fs::read_to_string(folder.path().join("tokens/one.json")).unwrap();
        assert!(!stored.contains(&token), "the secret was stored");
        let renewed = tokens.create(&one, Duration::from_mins(1), now).unwrap();
        assert_eq!(redeem(&one, &token), None, "an old token went on");
        assert_eq!(redeem(&one, &renewed), good);
        let late = tokens.redeem(&one, &renewed, b"key", now + Duration::from_mins(2)).unwrap();
        assert_eq!(late, Some(Use::Expired));
    }

    #[test]
    fn a_used_token_is_good_for_the_key_of_its_first_use_alone() {
        let folder = tempfile::tempdir().unwrap();
        let node: NodeName = "one".parse().unwrap();
        let now = OffsetDateTime::UNIX_EPOCH;
        let token = Tokens::of(folder.path()).create(&node, Duration::from_mins(1), now).unwrap();
        let good = Some(Use::Good(now + Duration::from_mins(1)));
        // A controller that was started anew knows as well.
        let redeem = |key: &[u8]| Tokens::of(folder.path()).redeem(&node, &token, key, now).unwrap();
        assert_eq!(redeem(b"first"), good);
        assert_eq!(redeem(b"second"), Some(Use::Spent));
        assert_eq!(redeem(b"first"), good, "a join whose answer was lost cannot be tried again");
        Tokens::of(folder.path()).create(&node, Duration::from_mins(1), now).unwrap();
        assert_eq!(redeem(b"first"), None);
    }
}
