//! Join tokens: a secret that makes one node's first certificate. Stored as a hash, good for one node, for a while.

use std::path::{Path, PathBuf};
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
}

/// The tokens of a state directory; read at each use, so that a new one is good at once.
#[derive(Debug, Clone)]
pub struct Tokens {
    folder: PathBuf,
}

impl Tokens {
    #[must_use]
    pub fn of(state_dir: &Path) -> Self {
        Self { folder: state_dir.join("tokens") }
    }

    /// Makes a token for `node`, in place of any that it had. It is shown once and never stored.
    pub fn create(&self, node: &NodeName, life: Duration, now: OffsetDateTime) -> anyhow::Result<String> {
        let mut secret = [0_u8; limits::TOKEN_BYTES];
        rand::rngs::SysRng.try_fill_bytes(&mut secret).context("the system has no random bytes")?;
        let token = hexadecimal(&secret);
        let stored = Stored {
            node: node.to_string(),
            sha256: hexadecimal(&digest(&token)),
            expires_unix_seconds: (now + life).unix_timestamp(),
        };
        state::create_folder(&self.folder)?;
        state::replace(&self.file(node), &serde_json::to_vec_pretty(&stored)?)?;
        Ok(token)
    }

    /// When the token of this node expires, if it is `token`. Takes as long for a wrong one as for a right one.
    #[must_use]
    pub fn check(&self, node: &NodeName, token: &str) -> Option<OffsetDateTime> {
        if token.len() > limits::TOKEN_TEXT_BYTES {
            return None;
        }
        let stored = self.stored(node);
        let expected = stored.as_ref().map_or("", |stored| stored.sha256.as_str());
        let found = hexadecimal(&digest(token.trim()));
        let same = bool::from(found.as_bytes().ct_eq(expected.as_bytes()));
        let stored = stored.filter(|stored| same && stored.node == node.as_str())?;
        OffsetDateTime::from_unix_timestamp(stored.expires_unix_seconds).ok()
    }

    fn stored(&self, node: &NodeName) -> Option<Stored> {
        serde_json::from_slice(&std::fs::read(self.file(node)).ok()?).ok()
    }

    fn file(&self, node: &NodeName) -> PathBuf {
        self.folder.join(format!("{node}.json"))
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
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
        assert_eq!(tokens.check(&one, &token), Some(now + Duration::from_mins(1)));
        assert_eq!(
            tokens.check(&one, &format!("{token}\n")),
            Some(now + Duration::from_mins(1)),
            "files end with a line feed"
        );
        assert_eq!(tokens.check(&two, &token), None);
        assert_eq!(tokens.check(&one, ""), None);
        assert_eq!(tokens.check(&"three".parse().unwrap(), ""), None);
        let stored = std::fs::read_to_string(folder.path().join("tokens/one.json")).unwrap();
        assert!(!stored.contains(&token), "the secret was stored");
        let renewed = tokens.create(&one, Duration::from_mins(1), now).unwrap();
        assert_eq!(tokens.check(&one, &token), None, "an old token went on");
        assert!(tokens.check(&one, &renewed).is_some());
    }
}
