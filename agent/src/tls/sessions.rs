//! The tickets of one credential, and whose turn it is for a full handshake.
//!
//! Invariants: a ticket is handed out once, the newest first; both bounds of `limits` hold; nobody waits for a ticket
//! longer than `limits::TICKET_WAIT_IN_CROWD`. Absent: what a ticket is worth, which rustls and the check after it decide.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::limits;

/// Shared by the workers: the lock is held for a few instructions.
#[derive(Default)]
pub struct Sessions(Mutex<Peers>);

#[derive(Default)]
struct Peers {
    by_name: HashMap<ServerName<'static>, Peer>,
    tickets: usize,
    /// Counts uses, so that the peer that was not used for the longest time makes room.
    uses: u64,
}

#[derive(Default)]
struct Peer {
    key_exchange: Option<NamedGroup>,
    /// Oldest first.
    tickets: VecDeque<Tls13ClientSessionValue>,
    gate: Arc<Gate>,
    used: u64,
}

/// What the handshakes with one peer wait at.
struct Gate {
    /// A permit for each ticket that nobody has claimed yet. At most as many as there are tickets.
    tickets: Semaphore,
    full: Arc<Semaphore>,
    /// Full handshakes in succession after which no ticket came.
    fruitless: AtomicUsize,
    /// Tickets that have come so far: while this moves, waiting is worth it.
    arrived: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            tickets: Semaphore::new(0),
            full: Arc::new(Semaphore::new(limits::FULL_HANDSHAKES_AT_ONCE)),
            fruitless: AtomicUsize::new(0),
            arrived: AtomicUsize::new(0),
        }
    }
}

impl Gate {
    async fn ticket_or_place(&self) -> Turn {
        tokio::select! {
            biased;
            Ok(ticket) = self.tickets.acquire() => {
                ticket.forget();
                Turn::Short
            }
            Ok(place) = Arc::clone(&self.full).acquire_owned() => Turn::Full { _place: place },
            else => Turn::Unbounded,
        }
    }
}

/// The right to begin a handshake at once. Held until the handshake has ended.
#[derive(Debug)]
pub enum Turn {
    /// With a ticket that is this handshake's, if it begins before the next wait.
    Short,
    Full {
        _place: OwnedSemaphorePermit,
    },
    /// Waiting longer would help nobody.
    Unbounded,
}

impl Sessions {
    /// Waits for a ticket of `peer` or for a place among the full handshakes with it: `limits::TICKET_WAIT` when no ticket
    /// arrives meanwhile for anybody, `limits::TICKET_WAIT_IN_CROWD` at most.
    ///
    /// A burst of connections to a peer of which nothing is kept would else be a burst of full handshakes, each three to
    /// four times as dear as the short ones that the first few make possible.
    pub async fn turn(&self, peer: &ServerName<'static>) -> Turn {
        let gate = self.locked().used(peer);
        if let Ok(ticket) = gate.tickets.try_acquire() {
            ticket.forget();
            return Turn::Short;
        }
        if gate.fruitless.load(Ordering::Relaxed) >= limits::FRUITLESS_HANDSHAKES {
            return Turn::Unbounded;
        }
        let begun = Instant::now();
        let mut waiting = pin!(gate.ticket_or_place());
        let mut arrived = gate.arrived.load(Ordering::Relaxed);
        loop {
            if let Ok(turn) = timeout(limits::TICKET_WAIT, &mut waiting).await {
                return turn;
            }
            let before = std::mem::replace(&mut arrived, gate.arrived.load(Ordering::Relaxed));
            if before == arrived || begun.elapsed() >= limits::TICKET_WAIT_IN_CROWD {
                return Turn::Unbounded;
            }
        }
    }

    /// A full handshake with `peer` has succeeded: a ticket should follow.
    pub fn expect_ticket(&self, peer: &ServerName<'static>) {
        self.locked().used(peer).fruitless.fetch_add(1, Ordering::Relaxed);
    }

    fn locked(&self) -> MutexGuard<'_, Peers> {
        // Every method leaves the map as it should be, or has not touched it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers {
    fn peer(&mut self, name: &ServerName<'static>) -> &mut Peer {
        if !self.by_name.contains_key(name) && self.by_name.len() >= limits::SESSION_PEERS_PER_IDENTITY {
            let rested = self.by_name.iter().min_by_key(|(_, peer)| peer.used).map(|(name, _)| name.clone());
            if let Some(gone) = rested.and_then(|name| self.by_name.remove(&name)) {
                self.tickets -= gone.tickets.len();
            }
        }
        self.uses += 1;
        let peer = self.by_name.entry(name.clone()).or_default();
        peer.used = self.uses;
        peer
    }

    fn used(&mut self, name: &ServerName<'static>) -> Arc<Gate> {
        Arc::clone(&self.peer(name).gate)
    }

    fn insert(&mut self, name: &ServerName<'static>, ticket: Tls13ClientSessionValue) {
        if self.tickets >= limits::SESSIONS_PER_IDENTITY
            && let Some(richest) = self.by_name.values_mut().max_by_key(|peer| peer.tickets.len())
        {
            self.tickets -= richest.drop_oldest();
        }
        let peer = self.peer(name);
        let dropped = if peer.tickets.len() >= limits::SESSIONS_PER_PEER { peer.drop_oldest() } else { 0 };
        peer.tickets.push_back(ticket);
        peer.gate.fruitless.store(0, Ordering::Relaxed);
        peer.gate.arrived.fetch_add(1, Ordering::Relaxed);
        peer.gate.tickets.add_permits(1);
        self.tickets = self.tickets + 1 - dropped;
    }

    fn take(&mut self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let peer = self.by_name.get_mut(name)?;
        let ticket = peer.tickets.pop_back()?;
        peer.withdraw_permits();
        self.tickets -= 1;
        Some(ticket)
    }
}

impl Peer {
    /// How many were dropped: one, if there was one.
    fn drop_oldest(&mut self) -> usize {
        let dropped = usize::from(self.tickets.pop_front().is_some());
        self.withdraw_permits();
        dropped
    }

    /// A ticket that went without its permit, to one that had not waited for it, takes the permit along.
    fn withdraw_permits(&self) {
        let excess = self.gate.tickets.available_permits().saturating_sub(self.tickets.len());
        self.gate.tickets.forget_permits(excess);
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.locked().peer(&server_name).key_exchange = Some(group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.locked().by_name.get(server_name).and_then(|peer| peer.key_exchange)
    }

    // The mesh speaks TLS 1.3 alone.
    fn set_tls12_session(&self, _server_name: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server_name: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.locked().insert(&server_name, value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.locked().take(server_name)
    }
}

impl fmt::Debug for Sessions {
    // Tickets are secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sessions").finish_non_exhaustive()
    }
}
