//! Connections that change their protocol in the middle (RFC 9110, section 7.8): WebSocket and the like.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, StatusCode, request};

use super::Response;
use super::canonical::{is_upgrade, strip_hop_by_hop};
use super::engine::{self, Tunnel};
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

    /// Asks the next hop for it. False: nothing was wanted.
    pub fn ask(self, head: &mut request::Parts) -> bool {
        let Some(protocol) = self.0 else { return false };
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(UPGRADE, protocol);
        true
    }
}

/// Takes what is meant for one hop out of an answer; where it grants the upgrade, joins the two connections.
pub fn finish<D>(worker: &Rc<Worker>, pod: &Arc<Pod>, response: &mut Response, downstream: Option<D>)
where
    D: Future<Output = Option<Tunnel>> + 'static,
{
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        strip_hop_by_hop(response.headers_mut());
        return;
    }
    let Some(downstream) = downstream else { return };
    let upstream = engine::tunnel(response);
    let (own, pod) = (Rc::clone(worker), Arc::clone(pod));
    worker.spawn(async move {
        // Neither comes where the other side went away before the answer was written.
        let (Some(mut downstream), Some(mut upstream)) = tokio::join!(downstream, upstream) else { return };
        let _ = relay(&mut downstream, &mut upstream, FirstByte::AsIs, own.cut(&pod)).await;
    });
}
