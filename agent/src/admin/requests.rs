//! Requests that have ended, kept and live.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use http::Method;
use http_body::Frame;
use serde_json::json;

use super::serve::{Asked, Life, Parameters, number, refuse};
use crate::limits;
use crate::telemetry::{Direction, RequestFilter, Sample, Tap, Tapped};

/// `GET /requests`.
pub(super) async fn kept(State(state): Asked, Query(parameters): Parameters) -> Response {
    match filter(&parameters) {
        Ok(filter) => Json(state.telemetry.requests(&filter)).into_response(),
        Err(problem) => refuse(StatusCode::BAD_REQUEST, &problem),
    }
}

/// `GET /tap`: one JSON object a line, a request's or `{"lost":N}`.
pub(super) async fn live(
    State(state): Asked,
    Extension(life): Extension<Life>,
    Query(parameters): Parameters,
) -> Response {
    let asked = filter(&parameters)
        .and_then(|filter| Ok((filter, number(&parameters, "sample")?, number(&parameters, "rate")?)));
    let (filter, sample, rate) = match asked {
        Ok(asked) => asked,
        Err(problem) => return refuse(StatusCode::BAD_REQUEST, &problem),
    };
    let sample = Sample::one_of(sample.unwrap_or(1));
    let Some(tap) = state.telemetry.tap(filter, sample, rate.unwrap_or(limits::TAP_RATE)) else {
        let problem = format!("{} look on already, and no more may", limits::TAPS);
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &problem);
    };
    life.is_long();
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(Lines(tap))).into_response()
}

pub(super) fn filter(parameters: &HashMap<String, String>) -> Result<RequestFilter, String> {
    let text = |name: &str| parameters.get(name).cloned();
    let id = |name: &str| {
        parameters.get(name).map(|text| text.parse().map_err(|error| format!("{name}: {error}"))).transpose()
    };
    let method = |text: &String| {
        Method::from_bytes(text.to_ascii_uppercase().as_bytes()).map_err(|_| format!("{text:?} is no method"))
    };
    Ok(RequestFilter {
        id: id("id")?,
        connection: id("connection")?,
        direction: match parameters.get("direction").map(String::as_str) {
            None => None,
            Some("outbound") => Some(Direction::Outbound),
            Some("inbound") => Some(Direction::Inbound),
            Some(other) => return Err(format!("direction is outbound or inbound, not {other:?}")),
        },
        source: text("source"),
        destination: text("destination"),
        method: parameters.get("method").map(method).transpose()?,
        path: text("path"),
        status: parameters.get("status").map(|status| status.parse()).transpose()?,
        failed: parameters.get("failed").is_some_and(|failed| failed == "true"),
        limit: number(parameters, "limit")?,
    })
}

/// A tap as the body of an answer.
struct Lines(Tap);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(tapped) = ready!(self.0.poll(context)) else { return Poll::Ready(None) };
        let written = match tapped {
            Tapped::Request(record) => serde_json::to_vec(&*record),
            Tapped::Lost(count) => serde_json::to_vec(&json!({ "lost": count })),
        };
        let mut line = written.unwrap_or_default();
        line.push(b'\n');
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(line)))))
    }
}
