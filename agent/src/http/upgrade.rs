//! Requests that make another protocol of their connection (RFC 9110, section 7.8), or of their stream (RFC 8441): WebSocket
//! and, within HTTP/1, the like.
//!
//! To everybody who judges it such a request is the GET that it is in HTTP/1. Where client and server speak different versions
//! of HTTP a WebSocket is translated: `Upgrade` and 101 on one side are an extended CONNECT and 200 on the other. Within
//! HTTP/2 nothing is translated: the two bodies of a stream are a tunnel already.

#[cfg(test)]
mod tests;
mod websocket;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, request};

use super::canonical::{is_upgrade, strip_hop_by_hop};
use super::engine::{self, Body, Duplex, Protocol, Speaker, Tunnel};
use super::{Request, Response, Version};
use crate::error::{ConnectionError, Reason, Side};
use crate::node::pod::Pod;
use crate::relay::{FirstByte, relay};
use crate::worker::Worker;

/// The protocol that a request wants to change to, if any.
pub struct Upgrade(Option<Wanted>);

struct Wanted {
    protocol: HeaderValue,
    from: Version,
    to: Version,
    /// Of a WebSocket that is translated: what its HTTP/1 side is answered by (RFC 6455, section 4.2.2).
    key: Option<HeaderValue>,
}

/// What of the client's side becomes a tunnel; nothing is awaited here.
pub enum Held {
    Nothing,
    Connection(Later),
    /// What the client says on its stream.
    Stream(Body),
    /// Its connection, and what is to be said on the server's stream.
    Both(Later, Speaker),
}

type Later = Pin<Box<dyn Future<Output = Option<Tunnel>>>>;

impl Upgrade {
    /// Takes what is meant for this hop alone out of a request's head, before anybody judges it.
    pub fn begin(head: &mut request::Parts) -> Self {
        let of_connection = is_upgrade(head).map(|protocol| (protocol, Version::Http1));
        let of_stream = head.extensions.remove::<Protocol>();
        let of_stream = of_stream.and_then(|Protocol(name)| Some((HeaderValue::from_str(&name).ok()?, Version::Http2)));
        strip_hop_by_hop(&mut head.headers);
        let wanted = of_connection.or(of_stream);
        Self(wanted.map(|(protocol, from)| Wanted { protocol, from, to: from, key: None }))
    }

    #[must_use]
    pub const fn is_asked(&self) -> bool {
        self.0.is_some()
    }

    /// Asks the next hop for it, which speaks `to`. An upgrade that has no form there is not asked for: HTTP/1 leaves it to the
    /// server whether it does what was asked, or changes its protocol.
    pub fn ask(&mut self, head: &mut request::Parts, body: &Body, to: Version) {
        let Some(wanted) = &mut self.0 else { return };
        wanted.to = to;
        match (wanted.from, to) {
            (Version::Http1, Version::Http1) => wanted.name(&mut head.headers),
            (Version::Http2, Version::Http2) => name_stream(head),
            (Version::Http2, Version::Http1) => {
                wanted.key = Some(websocket::key());
                websocket::begin(&mut head.headers, wanted.key.as_ref());
                wanted.name(&mut head.headers);
                speak_of_no_body(&mut head.headers);
            }
            (Version::Http1, Version::Http2) => {
                wanted.key = websocket::taken(&mut head.headers);
                let fits = head.method == Method::GET && wanted.is_websocket() && body.is_over();
                if fits && wanted.key.is_some() {
                    name_stream(head);
                    speak_of_no_body(&mut head.headers);
                } else {
                    self.0 = None;
                }
            }
        }
    }

    /// Takes out of a request what the tunnel is made of.
    pub fn hold(&self, request: &mut Request) -> Held {
        let Some(wanted) = &self.0 else { return Held::Nothing };
        let connection = |request: &Request| -> Later { Box::pin(engine::tunnel(request.extensions())) };
        match (wanted.from, wanted.to) {
            (Version::Http1, Version::Http1) => Held::Connection(connection(request)),
            (Version::Http2, Version::Http2) => Held::Nothing,
            (Version::Http2, Version::Http1) => Held::Stream(std::mem::replace(request.body_mut(), Body::empty())),
            (Version::Http1, Version::Http2) => {
                let (speaker, body) = engine::spoken();
                *request.body_mut() = body;
                Held::Both(connection(request), speaker)
            }
        }
    }

    /// Whether the server changes the protocol, so that two connections are to be joined.
    fn is_granted(&self, response: &Response) -> bool {
        let by_stream = |wanted: &Wanted| (wanted.from, wanted.to) == (Version::Http1, Version::Http2);
        let granted = self.0.as_ref().is_some_and(by_stream) && response.status().is_success();
        granted || response.status() == StatusCode::SWITCHING_PROTOCOLS
    }

    /// Takes what is meant for one hop out of an answer. Where it grants what was asked for, and nothing else, these are the two
    /// ends that are to be joined.
    ///
    /// # Errors
    /// The application changes to a protocol that nobody has asked for, or not to the one that was.
    pub fn finish(self, response: &mut Response, held: Held) -> Result<Option<Ends>, ConnectionError> {
        if !self.is_granted(response) {
            strip_hop_by_hop(response.headers_mut());
            let unanswered = matches!(held, Held::Stream(_)) && response.status().is_success();
            if let Held::Both(_, speaker) = held {
                // Its stream ends in order, or the body of the refusal would be reset with it.
                speaker.end();
            }
            // To the client any 2xx would be the beginning of its tunnel.
            return if unanswered { Err(refused("the application answers a WebSocket as a page")) } else { Ok(None) };
        }
        let Some(wanted) = self.0 else { return Err(refused(UNASKED)) };
        let ends = match held {
            Held::Connection(client) if wanted.is_granted(response.headers()) => {
                Ends::Connections(client, Box::pin(engine::tunnel(response.extensions())))
            }
            Held::Stream(client) if wanted.is_granted(response.headers()) => {
                if !websocket::accepts(response.headers(), wanted.key.as_ref()) {
                    return Err(refused("the application accepts a WebSocket that was not asked for"));
                }
                let (speaker, body) = engine::spoken();
                let server = Box::pin(engine::tunnel(response.extensions()));
                *response.body_mut() = body;
                *response.status_mut() = StatusCode::OK;
                websocket::end(response.headers_mut());
                Ends::OfStream(Duplex::new(client, speaker), server)
            }
            Held::Both(client, speaker) => {
                let server = std::mem::replace(response.body_mut(), Body::empty());
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                websocket::end(response.headers_mut());
                websocket::accept(response.headers_mut(), wanted.key.as_ref());
                wanted.name(response.headers_mut());
                Ends::ToStream(client, Duplex::new(server, speaker))
            }
            Held::Nothing | Held::Connection(_) | Held::Stream(_) => return Err(refused(UNASKED)),
        };
        Ok(Some(ends))
    }
}

/// The client's side of a tunnel and the server's.
pub enum Ends {
    Connections(Later, Later),
    OfStream(Duplex, Later),
    ToStream(Later, Duplex),
}

impl Ends {
    /// Joins them for as long as they and their pod live, and `held` with them.
    pub fn spawn(self, worker: &Rc<Worker>, pod: &Arc<Pod>, held: impl Sized + 'static) {
        let (own, pod) = (Rc::clone(worker), Arc::clone(pod));
        worker.spawn(async move {
            let _held = held;
            self.join(own.cut(&pod)).await;
        });
    }

    /// A tunnel that did not end in order is reset on both sides when the two are dropped. A connection does not come where its
    /// side went away before the answer was written.
    async fn join(self, cut: impl Future<Output = Reason>) {
        match self {
            Self::Connections(client, server) => {
                if let (Some(mut client), Some(mut server)) = tokio::join!(client, server) {
                    let _ = relay(&mut client, &mut server, FirstByte::AsIs, cut).await;
                }
            }
            Self::OfStream(mut client, server) => {
                if let Some(mut server) = server.await {
                    let _ = relay(&mut client, &mut server, FirstByte::AsIs, cut).await;
                }
            }
            Self::ToStream(client, mut server) => {
                if let Some(mut client) = client.await {
                    let _ = relay(&mut client, &mut server, FirstByte::AsIs, cut).await;
                }
            }
        }
    }
}

const UNASKED: &str = "the application changes to a protocol that was not asked for";

fn refused(why: &str) -> ConnectionError {
    ConnectionError::new(Side::Upstream, Reason::UpstreamReset).with_detail(why)
}

/// The one protocol that is asked for across versions, and by an extended CONNECT at all: others (`connect-udp`) lead to
/// anywhere, past every rule.
#[must_use]
pub fn is_refused(extensions: &http::Extensions) -> bool {
    extensions.get().is_some_and(|Protocol(name)| !name.eq_ignore_ascii_case(websocket::NAME))
}

/// Asks for a stream that is a WebSocket.
fn name_stream(head: &mut request::Parts) {
    head.extensions.insert(Protocol(Box::from(websocket::NAME)));
}

/// What follows the head is a tunnel, which neither has a length nor waits to be sent.
fn speak_of_no_body(headers: &mut HeaderMap) {
    headers.remove(CONTENT_LENGTH);
    headers.remove(EXPECT);
}

impl Wanted {
    fn is_websocket(&self) -> bool {
        self.protocol.as_bytes().eq_ignore_ascii_case(websocket::NAME.as_bytes())
    }

    /// Names the protocol in a message of HTTP/1.
    fn name(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocol.clone());
    }

    /// An answer of HTTP/1 changes to this protocol.
    fn is_granted(&self, headers: &HeaderMap) -> bool {
        headers.get(UPGRADE).is_some_and(|granted| granted.as_bytes().eq_ignore_ascii_case(self.protocol.as_bytes()))
    }
}
