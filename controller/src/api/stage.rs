//! An API server out of a function, for what a real one cannot be brought to: to hang, to answer late, to fail just then.
//!
//! What the API means is told by `tests/control`, on a real one; here is only as much of it as a part asks for.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value as Json, json};
use tonic::codegen::Service;

/// A status code and what comes with it.
pub type Answer = (u16, Json);

/// Asked with the method, the path with its query, and what is sent.
pub fn client<A: Future<Output = Answer> + Send + 'static>(
    answer: impl Fn(Method, String, Json) -> A + Clone + Send + 'static,
) -> Client {
    Client::new(Stage(answer), "default")
}

#[must_use]
pub fn refusal(code: u16) -> Answer {
    let reason = if code == 404 { "NotFound" } else { "" };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code});
    (code, status)
}

struct Stage<F>(F);

impl<F, A> Service<Request<Body>> for Stage<F>
where
    F: Fn(Method, String, Json) -> A + Clone + Send + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let sent = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
            let (code, answer) = answer(parts.method, parts.uri.to_string(), sent).await;
            let body = Body::from(answer.to_string().into_bytes());
            Ok(Response::builder().status(code).body(body).unwrap())
        })
    }
}

/// Objects by their path, each with a version that counts its changes.
#[derive(Clone, Default)]
pub struct Objects(Arc<Mutex<BTreeMap<String, Json>>>);

impl Objects {
    /// # Panics
    /// If somebody panicked who had it.
    pub fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Json>> {
        self.0.lock().unwrap()
    }

    #[must_use]
    pub fn answer(&self, method: &Method, uri: &str, sent: Json) -> Answer {
        let path = uri.split('?').next().unwrap_or_default();
        let mut all = self.locked();
        match method.as_str() {
            "GET" => all.get(path).map_or_else(|| refusal(404), |found| (200, found.clone())),
            "POST" => {
                let name = sent["metadata"]["name"].as_str().unwrap_or_default();
                let path = format!("{path}/{name}");
                if all.contains_key(&path) { refusal(409) } else { put(&mut all, path, sent) }
            }
            "PUT" => match all.get(path).map(|known| known["metadata"]["resourceVersion"].clone()) {
                None => refusal(404),
                Some(version) if version != sent["metadata"]["resourceVersion"] => refusal(409),
                Some(_) => put(&mut all, path.to_owned(), sent),
            },
            "PATCH" => {
                let path = path.trim_end_matches("/status");
                let Some(mut object) = all.get(path).cloned() else { return refusal(404) };
                let version = &sent["metadata"]["resourceVersion"];
                if !version.is_null() && *version != object["metadata"]["resourceVersion"] {
                    return refusal(409);
                }
                for part in ["status", "data"] {
                    for (name, value) in sent[part].as_object().into_iter().flatten() {
                        object[part][name] = value.clone();
                    }
                }
                put(&mut all, path.to_owned(), object)
            }
            _ => refusal(405),
        }
    }
}

fn put(all: &mut BTreeMap<String, Json>, path: String, mut object: Json) -> Answer {
    let version = object["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse::<u64>().ok());
    object["metadata"]["resourceVersion"] = json!(version.map_or(1, |version| version + 1).to_string());
    all.insert(path, object.clone());
    (200, object)
}
