//! The open record of one request. However the request ends, it is recorded once.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use http::HeaderValue;

use super::{RequestRecord, Telemetry};
use crate::error::{ConnectionError, Reason, Side};
use crate::http::answer::grpc_status;
use crate::http::engine::{BodyEnd, Finished};
use crate::http::{Body, Response};

/// Dropped before an answer was given: the client has gone away.
#[derive(Debug)]
pub struct Account {
    record: Option<Box<RequestRecord>>,
    started: Instant,
    name: HeaderValue,
    upload: Rc<Upload>,
    telemetry: Telemetry,
}

/// What becomes of a request's body.
#[derive(Debug, Default)]
struct Upload {
    sent: Cell<u64>,
    /// The client has more of it to send.
    sending: Cell<bool>,
    /// It broke off, or could not be read.
    broken: Cell<bool>,
}

impl Account {
    #[must_use]
    pub fn open(telemetry: &Telemetry, record: Box<RequestRecord>) -> Self {
        Self {
            name: HeaderValue::try_from(record.id.to_string()).unwrap_or_else(|_| HeaderValue::from_static("")),
            record: Some(record),
            started: Instant::now(),
            upload: Rc::default(),
            telemetry: telemetry.clone(),
        }
    }

    /// The request's name, as a header's value.
    #[must_use]
    pub fn name(&self) -> HeaderValue {
        self.name.clone()
    }

    #[must_use]
    pub fn id(&self) -> String {
        self.record.as_ref().map(|record| record.id.to_string()).unwrap_or_default()
    }

    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// Closes the record of a request whose answer nobody gets.
    pub fn ended(mut self) {
        self.close();
    }

    /// Writes into the record, which is there until the answer's body has ended.
    pub fn note(&mut self, note: impl FnOnce(&mut RequestRecord)) {
        if let Some(record) = &mut self.record {
            note(record);
        }
    }

    /// Counts the bytes of the request's body.
    #[must_use]
    pub fn counted(&self, body: Body) -> Body {
        if body.is_over() {
            return body;
        }
        let upload = Rc::clone(&self.upload);
        upload.sending.set(true);
        body.observed(move |finished| {
            upload.sending.set(false);
            upload.sent.set(upload.sent.get() + finished.bytes);
            upload.broken.set(finished.how == BodyEnd::Failed);
        })
    }

    /// Whose failure it is that no answer came: the client's, where its own body did not come to its end, or `otherwise`.
    #[must_use]
    pub fn blame(&self, otherwise: ConnectionError) -> ConnectionError {
        if self.is_broken() {
            ConnectionError::new(Side::Downstream, Reason::BadRequest)
                .with_detail("the request's body broke off, or its framing cannot be read")
        } else {
            otherwise
        }
    }

    /// Whether it was still the client's turn: what takes long then says nothing about the server.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        self.upload.sending.get()
    }

    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.upload.broken.get()
    }

    /// The answer's head is on its way; the record is closed when its body has ended, and `then` is called.
    pub fn answered(mut self, response: Response, then: impl FnOnce(&Finished) + 'static) -> Response {
        let first_byte = self.started.elapsed();
        self.note(|record| {
            record.first_byte = Some(first_byte);
            record.status = Some(response.status().as_u16());
            record.grpc_status = grpc_status(response.headers());
        });
        response.map(|body| {
            body.observed(move |finished| {
                self.note(|record| {
                    record.bytes_received = finished.bytes;
                    let trailing = finished.trailers.as_ref().and_then(grpc_status);
                    record.grpc_status = trailing.or(record.grpc_status);
                    match finished.how {
                        BodyEnd::Whole => {}
                        BodyEnd::Failed => fail(record, Side::Upstream, Reason::UpstreamReset),
                        BodyEnd::Dropped => fail(record, Side::Downstream, Reason::DownstreamReset),
                    }
                });
                self.close();
                then(&finished);
            })
        })
    }

    fn close(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.duration = self.started.elapsed();
            record.bytes_sent = self.upload.sent.get();
            self.telemetry.request(record);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.note(|record| fail(record, Side::Downstream, Reason::DownstreamReset));
        self.close();
    }
}

/// What was decided before stays the reason.
fn fail(record: &mut RequestRecord, side: Side, reason: Reason) {
    if record.reason == Reason::Completed {
        record.reason = reason;
        record.side = Some(side);
    }
}
