//! What an agent that subscribes says that it holds, against what it should hold.
//!
//! It says so in digests of shards (`weft_proto::resource`), and by name where these differ: after a restart of ours all
//! agents come at once, and nearly everything that they bring is right.

use std::collections::HashMap;
use std::sync::Arc;

use weft_proto::names::NodeName;
use weft_proto::resource::{SHARD_DIGEST_LENGTH, SHARDS, shard, shards};
use weft_proto::v1::ResourceVersion;

use super::{Messages, Published, Subscription};

#[derive(Debug)]
pub struct Claim {
    node: NodeName,
    /// What the agent should hold is its part of this.
    state: Arc<Published>,
    /// Shards of which it holds something else.
    differing: Vec<u8>,
    /// Those of them of which it holds something.
    unclear: Vec<u8>,
}

impl Claim {
    /// Err: these are no digests of shards.
    pub fn new(node: NodeName, digests: &[Vec<u8>], state: &Arc<Published>) -> Result<Self, &'static str> {
        let is_digest = |digest: &Vec<u8>| digest.is_empty() || digest.len() == SHARD_DIGEST_LENGTH;
        if digests.len() > SHARDS || !digests.iter().all(is_digest) {
            return Err("the Hello does not say what the agent holds in digests of shards");
        }
        let wanted = shards(state.of(&node).map(|(name, resource)| (name.as_ref(), resource.version.as_slice())));
        let said = |number: u8| digests.get(usize::from(number)).map_or(&[][..], Vec::as_slice);
        let differs = |number: &u8| wanted[usize::from(*number)] != said(*number);
        let differing: Vec<u8> = (0..=u8::MAX).filter(differs).collect();
        let unclear = differing.iter().copied().filter(|number| !said(*number).is_empty()).collect();
        Ok(Self { node, state: Arc::clone(state), differing, unclear })
    }

    /// Shards whose resources the agent has to name.
    #[must_use]
    pub fn unclear(&self) -> &[u8] {
        &self.unclear
    }

    /// The agent names what it holds of them. The messages bring it to the state that it was compared with; there is
    /// always one, so that it knows that it is up to date.
    #[must_use]
    pub fn settle(self, named: Vec<ResourceVersion>) -> (Subscription, Messages) {
        let Self { node, state, differing, unclear } = self;
        // What nobody asked about is there by its digest.
        let named = named.into_iter().filter(|resource| unclear.contains(&shard(&resource.name)));
        let mut held: HashMap<String, Vec<u8>> = named.map(|resource| (resource.name, resource.version)).collect();
        let mut new = Vec::new();
        if !differing.is_empty() {
            let wanted = state.of(&node).filter(|(name, _)| differing.contains(&shard(name)));
            let missing = wanted.filter(|(name, wanted)| held.remove(name.as_ref()).as_ref() != Some(&wanted.version));
            new.extend(missing.map(|(_, resource)| Arc::clone(resource)));
        }
        // What is left of it is nobody's.
        let messages = Messages::first(new, held.into_keys().collect());
        (Subscription::new(node, state), messages)
    }
}
