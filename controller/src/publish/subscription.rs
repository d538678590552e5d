//! What one agent holds, and the messages that bring it to the newest state.
//!
//! A subscription never queues: it compares what the agent has with the newest state, so what changes twice while a
//! message is in flight is sent once. Messages are made one after the other, as the agent takes them.

use std::collections::HashSet;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec;

use weft_proto::names::NodeName;
use weft_proto::v1::DiscoveryResponse;

use super::{Difference, Published};
use crate::limits;
use crate::translate::Encoded;

#[derive(Debug)]
pub struct Subscription {
    node: NodeName,
    /// The agent has its part of this once it has taken all messages.
    held: Arc<Published>,
}

impl Subscription {
    pub(super) fn new(node: NodeName, held: Arc<Published>) -> Self {
        Self { node, held }
    }

    #[must_use]
    pub fn held(&self) -> &Published {
        &self.held
    }

    /// No message where nothing differs.
    #[must_use]
    pub fn advance(&mut self, to: &Arc<Published>) -> Messages {
        let before = std::mem::replace(&mut self.held, Arc::clone(to));
        let Difference { new, old } = to.since(&before, &self.node);
        // What is gone from one portion may be in another.
        let there: HashSet<&str> = new.iter().filter(|_| !old.is_empty()).map(|one| one.name.as_str()).collect();
        let gone = old.iter().filter(|one| !there.contains(one.name.as_str())).map(|one| one.name.clone()).collect();
        Messages::of(new, gone)
    }
}

/// Messages of at most [`limits::RESOURCES_PER_MESSAGE`] and [`limits::MESSAGE_BYTES`]; a larger resource comes alone. The
/// last one completes the change.
#[derive(Debug)]
pub struct Messages {
    new: Peekable<vec::IntoIter<Arc<Encoded>>>,
    gone: Peekable<vec::IntoIter<String>>,
    is_complete: bool,
}

impl Messages {
    /// None where there is nothing to say.
    pub(super) fn of(new: Vec<Arc<Encoded>>, gone: Vec<String>) -> Self {
        let is_complete = new.is_empty() && gone.is_empty();
        Self { is_complete, ..Self::first(new, gone) }
    }

    /// At least one.
    pub(super) fn first(new: Vec<Arc<Encoded>>, gone: Vec<String>) -> Self {
        Self { new: new.into_iter().peekable(), gone: gone.into_iter().peekable(), is_complete: false }
    }
}

impl Iterator for Messages {
    type Item = DiscoveryResponse;

    fn next(&mut self) -> Option<DiscoveryResponse> {
        if self.is_complete {
            return None;
        }
        let (mut message, mut room) = (DiscoveryResponse::default(), Room::default());
        while let Some(resource) = self.new.next_if(|resource| room.takes(resource.bytes().len())) {
            message.upserts.push(resource.bytes().clone());
        }
        while let Some(name) = self.gone.next_if(|name| room.takes(name.len())) {
            message.removals.push(name);
        }
        self.is_complete = self.new.peek().is_none() && self.gone.peek().is_none();
        message.complete = self.is_complete;
        Some(message)
    }
}

/// Of one message.
#[derive(Debug, Default)]
struct Room {
    entries: usize,
    bytes: usize,
}

impl Room {
    /// Whether one more entry of that many bytes finds room, which it then takes. The first one always does.
    fn takes(&mut self, bytes: usize) -> bool {
        let fits = self.entries < limits::RESOURCES_PER_MESSAGE && self.bytes + bytes <= limits::MESSAGE_BYTES;
        let takes = fits || self.entries == 0;
        if takes {
            self.entries += 1;
            self.bytes += bytes;
        }
        takes
    }
}
