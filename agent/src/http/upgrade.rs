//! Connections that change their protocol in the middle (RFC 9110, section 7.8): WebSocket and the like.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, StatusCode, request};

use super::canonical::{is_upgrade, strip_hop_by_hop};
use super::engine::{self, Tunnel};
use super::{Request, Response};
use crate::error::{ConnectionError, Reason, Side};
use crate::node::pod::Pod;
use crate::relay::{FirstByte, relay};
use crate::worker::Worker;

/// The protocol that a request wants to change to, if any.
pub struct Upgrade(Option<HeaderValue>);

impl Upgrade {
    /// Takes what is meant for this hop alone out of a request's head, before anybody judges it.
    pub fn begin(head: &mut request::Parts) -> Self {
        let wanted = is_upgrade(head);
        strip_hop_by_hop(&mut head.headers);
        Self(wanted)
    }

    #[must_use]
    pub const fn is_asked(&self) -> bool {
        self.0.is_some()
    }

    /// Asks the next hop for it.
    pub fn ask(&self, head: &mut request::Parts) {
        if let Some(protocol) = &self.0 {
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, protocol.clone());
        }
    }

    /// What the client's connection becomes; nothing is awaited here.
    pub fn tunnel(&self, request: &Request) -> Option<impl Future<Output = Option<Tunnel>> + 'static> {
        self.0.is_some().then(|| engine::tunnel(request.extensions()))
    }

    /// Takes what is meant for one hop out of an answer. Where it grants what was asked for, and nothing else, the two
    /// connections are joined, and `held` lives as long as they do.
    ///
    /// # Errors
    /// The application changes to a protocol that nobody has asked for.
    pub fn finish<D>(
        self,
        (worker, pod): (&Rc<Worker>, &Arc<Pod>),
        response: &mut Response,
        downstream: Option<D>,
        held: impl Sized + 'static,
    ) -> Result<(), ConnectionError>
    where
        D: Future<Output = Option<Tunnel>> + 'static,
    {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            strip_hop_by_hop(response.headers_mut());
            return Ok(());
        }
        let granted = response.headers().get(UPGRADE);
        let as_asked = granted
            .zip(self.0.as_ref())
            .is_some_and(|(granted, asked)| granted.as_bytes().eq_ignore_ascii_case(asked.as_bytes()));
        let (true, Some(downstream)) = (as_asked, downstream) else {
            return Err(ConnectionError::new(Side::Upstream, Reason::UpstreamReset)
                .with_detail("the application changes to a protocol that was not asked for"));
        };
        let upstream = engine::tunnel(response.extensions());
        let (own, pod) = (Rc::clone(worker), Arc::clone(pod));
        worker.spawn(async move {
            let _held = held;
            // Neither comes where the other side went away before the answer was written.
            let (Some(mut downstream), Some(mut upstream)) = tokio::join!(downstream, upstream) else { return };
            // A tunnel that did not end in order is reset on both sides when the two are dropped.
            let _ = relay(&mut downstream, &mut upstream, FirstByte::AsIs, own.cut(&pod)).await;
        });
        Ok(())
    }
}
