//! The listeners and their questions.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weft_proto::names::NodeName;

use super::AdminState;
use super::asked::AskedRequest;
use super::callers;
use super::question::Question;
use super::requests;
use super::status::NodeView;
use super::story::Story;
use super::tell::TaleOfRecord;
use super::why::{Known, answer};
use crate::limits;
use crate::telemetry::{RecordFilter, RequestFilter, Security};

/// The socket's name below the run directory.
pub const SOCKET: &str = "admin.sock";
/// Beside it: the node's name, so that a dead agent's place still says whose it was.
pub const NODE_FILE: &str = "node";

/// Makes the admin socket, for root alone. It replaces a predecessor's in one step, so that nobody finds none.
///
/// # Errors
/// The run directory cannot be written.
pub fn bind(run_directory: &Path, node: &NodeName) -> io::Result<UnixListener> {
    std::fs::write(run_directory.join(NODE_FILE), node.as_str())?;
    let fresh = run_directory.join(format!("{SOCKET}.{}", std::process::id()));
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, run_directory.join(SOCKET))?;
    Ok(listener)
}

/// Answers on the admin socket until `stop`.
pub async fn serve(listener: UnixListener, state: AdminState, stop: CancellationToken) {
    let routes = Router::new()
        .route("/status", get(status))
        .route("/pods", get(pods))
        .route("/records", get(records))
        .route("/requests", get(requests::kept))
        .route("/tap", get(requests::live))
        .route("/why", get(why))
        .route("/callers", get(callers::callers))
        .route("/config", get(config))
        .route("/metrics", get(metrics))
        .route("/ready", get(ready))
        .fallback(unknown)
        .with_state(Arc::new(state));
    accept(listener, routes, stop).await;
}

/// Answers `/metrics` and `/ready`, and nothing else, until `stop`.
pub async fn serve_metrics(listener: TcpListener, state: AdminState, stop: CancellationToken) {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/ready", get(ready))
        .fallback(unknown)
        .with_state(Arc::new(state));
    accept(listener, routes, stop).await;
}

/// Bounded in connections and in each connection's whole life, so that a silent client holds nothing for long.
async fn accept<L: Listener>(mut listener: L, routes: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let (stream, _) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (stop, life) = (stop.clone(), Life::default());
        let service = {
            let (life, routes) = (life.clone(), TowerToHyperService::new(routes.clone()));
            service_fn(move |mut request| {
                request.extensions_mut().insert(life.clone());
                routes.call(request)
            })
        };
        let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        connections.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = life.within(served) => {}
            }
            drop(place);
        });
    }
    connections.close();
    connections.wait().await;
}

/// How long a connection may take as a whole: briefly, unless it shows what happens live.
#[derive(Debug, Clone, Default)]
pub(super) struct Life(Arc<AtomicBool>);

impl Life {
    pub(super) fn is_long(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    async fn within<T>(&self, served: impl Future<Output = T>) {
        tokio::pin!(served);
        let short = timeout(limits::ADMIN_CONNECTION_LIFE, &mut served).await;
        if short.is_err() && self.0.load(Ordering::Relaxed) {
            let _ = timeout(limits::TAP_LIFE, served).await;
        }
    }
}

pub(super) type Asked = State<Arc<AdminState>>;
pub(super) type Parameters = Query<HashMap<String, String>>;

/// `GET /status`.
#[derive(Serialize)]
struct Status<'a> {
    node: &'a NodeName,
    version: &'static str,
    process: u32,
    snapshot: &'a str,
    #[serde(flatten)]
    view: NodeView,
}

async fn status(State(state): Asked) -> Response {
    let snapshot = state.snapshots.current();
    let view = state.view(&snapshot);
    Json(Status {
        node: &state.node,
        version: env!("CARGO_PKG_VERSION"),
        process: std::process::id(),
        snapshot: &snapshot.version.0,
        view,
    })
    .into_response()
}

async fn pods(State(state): Asked) -> Response {
    Json(&state.status.borrow().pods).into_response()
}

async fn config(State(state): Asked) -> Response {
    Json(&*state.snapshots.current()).into_response()
}

async fn metrics(State(state): Asked) -> Response {
    let view = state.view(&state.snapshots.current());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], state.telemetry.metrics_text(&view)).into_response()
}

async fn ready(State(state): Asked) -> Response {
    let status = state.status.borrow();
    if status.ready && !status.draining {
        (StatusCode::OK, "ready\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

async fn records(State(state): Asked, Query(parameters): Parameters) -> Response {
    let filter = match filter(&parameters) {
        Ok(filter) => filter,
        Err(problem) => return refuse(StatusCode::BAD_REQUEST, &problem),
    };
    Json(state.telemetry.records(&filter)).into_response()
}

async fn why(State(state): Asked, Query(parameters): Parameters) -> Response {
    if parameters.contains_key("id") {
        return match by_id(&state, &parameters) {
            Ok(told) => Json(told).into_response(),
            Err(problem) => refuse(StatusCode::BAD_REQUEST, &problem),
        };
    }
    let question = match question(&parameters) {
        Ok(question) => question,
        Err(problem) => return refuse(StatusCode::BAD_REQUEST, &problem),
    };
    let snapshot = state.snapshots.current();
    let view = state.view(&snapshot);
    let kept =
        state.telemetry.records(&RecordFilter { limit: Some(2 * limits::RECORDS_KEPT), ..RecordFilter::default() });
    let all = RequestFilter { limit: Some(2 * limits::RECORDS_KEPT), ..RequestFilter::default() };
    let (requests, now) = (state.telemetry.requests(&all), Timestamp::now());
    let ejected = state.telemetry.ejected_now(now);
    let known = Known {
        node: &state.node,
        snapshot: &snapshot,
        view: &view,
        records: &kept,
        requests: &requests,
        ejected: &ejected,
        now,
    };
    match answer(&question, &known) {
        Ok(answer) => Json(answer).into_response(),
        Err(unresolved) => refuse(StatusCode::NOT_FOUND, &unresolved.problem),
    }
}

/// A connection's id, or a request's.
fn by_id(state: &AdminState, parameters: &HashMap<String, String>) -> Result<serde_json::Value, String> {
    let records = state.telemetry.records(&filter(parameters)?);
    let requests = state.telemetry.requests(&requests::filter(parameters)?);
    let tales: Vec<_> = records.iter().map(|record| TaleOfRecord::of(&state.node, record)).collect();
    let (now, snapshot) = (Timestamp::now(), state.snapshots.current());
    let ejected = state.telemetry.ejected_now(now);
    let story = Story { node: &state.node, snapshot: &snapshot, now, ejected: &ejected };
    let stories: Vec<_> = requests.iter().map(|record| story.tell(record)).collect();
    Ok(json!({ "node": state.node, "records": tales, "requests": stories }))
}

async fn unknown() -> Response {
    refuse(
        StatusCode::NOT_FOUND,
        "no such page; /status, /pods, /records, /requests, /tap, /why, /callers, /config, /metrics, /ready are there",
    )
}

pub(super) fn refuse(status: StatusCode, problem: &str) -> Response {
    (status, Json(json!({ "error": problem }))).into_response()
}

fn question(parameters: &HashMap<String, String>) -> Result<Question, String> {
    let wanted = |name: &str| parameters.get(name).cloned().ok_or_else(|| format!("{name} is missing"));
    let word = |name: &str| parameters.get(name).map(String::as_str);
    Ok(Question {
        source: wanted("source")?,
        destination: wanted("destination")?,
        port: number(parameters, "port")?,
        security: match parameters.get("security").map(String::as_str) {
            None => None,
            Some("mtls") => Some(Security::Mtls),
            Some("plaintext") => Some(Security::Plaintext),
            Some(other) => return Err(format!("security is mtls or plaintext, not {other:?}")),
        },
        request: AskedRequest::read(word("method"), word("path"), word("host"), word("headers"))?,
    })
}

fn filter(parameters: &HashMap<String, String>) -> Result<RecordFilter, String> {
    let id = parameters.get("id").map(|text| text.parse().map_err(|error| format!("id: {error}"))).transpose()?;
    Ok(RecordFilter {
        id,
        source: parameters.get("source").cloned(),
        destination: parameters.get("destination").cloned(),
        port: number(parameters, "port")?,
        limit: number(parameters, "limit")?,
    })
}

pub(super) fn number<N: std::str::FromStr>(
    parameters: &HashMap<String, String>,
    name: &str,
) -> Result<Option<N>, String> {
    let read = |text: &String| text.parse().map_err(|_| format!("{name} is not a number that fits: {text:?}"));
    parameters.get(name).map(read).transpose()
}
