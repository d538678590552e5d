//! What keeps a start waiting and for how long, on a clock of its own; the rest is told by `tests/control`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use serde_json::{Value as Json, json};

use super::*;
use crate::api::stage::{self, Answer, refusal};

/// How the API server answers about `HTTPRoute`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Routes {
    Served,
    Forbidden,
    Broken,
    NotEstablished,
    Hanging,
}

type Mood = Arc<Mutex<Routes>>;

const ROUTES: &str = "/httproutes";

/// One object of each definition, one route, and nothing else.
async fn answer(mood: Mood, core_is_there: Arc<AtomicBool>, uri: String) -> Answer {
    let path = uri.split('?').next().unwrap_or_default().to_owned();
    let now = *mood.lock().unwrap();
    let of_routes = path.ends_with("/gateway.networking.k8s.io/v1") || path.ends_with(ROUTES);
    match (of_routes, now) {
        (true, Routes::Forbidden) => return refusal(403),
        (true, Routes::Broken) => return refusal(503),
        (true, Routes::Hanging) => return std::future::pending().await,
        (true, Routes::Served | Routes::NotEstablished) | (false, _) => {}
    }
    if path == "/api/v1/pods" && !core_is_there.load(Ordering::Relaxed) {
        return refusal(503);
    }
    if uri.contains("watch=") {
        return std::future::pending().await;
    }
    if let Some((_, name)) = path.split_once("/customresourcedefinitions/") {
        let versions = json!([{"name": "v1", "served": true}]);
        return (200, json!({"metadata": {"name": name, "uid": name}, "spec": {"versions": versions}}));
    }
    if path.starts_with("/apis/") && path.split('/').count() == 4 {
        let all = [
            "httproutes",
            "grpcroutes",
            "tlsroutes",
            "tcproutes",
            "referencegrants",
            "xmeshes",
            "xbackendtrafficpolicies",
            "xbackends",
        ];
        let served: &[&str] = if now == Routes::NotEstablished { &[] } else { &all };
        let ours = ["meshconfigs", "authenticationpolicies", "authorizationpolicies", "trafficpolicies"];
        let resource =
            |name: &&str| json!({"name": name, "singularName": "", "namespaced": true, "kind": "", "verbs": []});
        let resources: Vec<Json> = served.iter().chain(&ours).map(resource).collect();
        return (200, json!({"groupVersion": "", "resources": resources}));
    }
    let route = json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web"}]},
    });
    let items = if path.ends_with(ROUTES) { vec![route] } else { vec![] };
    (200, json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items}))
}

struct Start {
    mood: Mood,
    core_is_there: Arc<AtomicBool>,
    troubles: Troubles,
    readings: watch::Receiver<Arc<Reading>>,
    stop: CancellationToken,
    running: JoinSet<anyhow::Result<()>>,
    _folder: tempfile::TempDir,
}

impl Start {
    fn with(routes: Routes) -> Self {
        let (mood, core_is_there) = (Mood::new(Mutex::new(routes)), Arc::new(AtomicBool::new(true)));
        let (asked, there) = (Arc::clone(&mood), Arc::clone(&core_is_there));
        let client = stage::client(move |_: Method, uri, _| answer(Arc::clone(&asked), Arc::clone(&there), uri));
        let (folder, troubles) = (tempfile::tempdir().unwrap(), Troubles::default());
        let kubernetes = Kubernetes::open(client, troubles.clone(), folder.path().join("kept.json"));
        let ((sender, readings), stop) = (watch::channel(Arc::default()), CancellationToken::new());
        let mut running = JoinSet::new();
        running.spawn(kubernetes.run(sender, stop.clone()));
        Self { mood, core_is_there, troubles, readings, stop, running, _folder: folder }
    }

    async fn until(&mut self, holds: impl FnMut(&Arc<Reading>) -> bool) {
        let waiting = tokio::time::timeout(limits::ROUTES_PATIENCE * 20, self.readings.wait_for(holds));
        waiting.await.expect("it waits for ever").unwrap();
    }

    async fn end(mut self) {
        self.stop.cancel();
        self.running.join_next().await.unwrap().unwrap().unwrap();
    }
}

fn has_route(reading: &Arc<Reading>) -> bool {
    !reading.objects.keys(Kind::HttpRoute).is_empty()
}

#[tokio::test(start_paused = true)]
async fn routes_that_can_be_read_are_in_the_first_reading() {
    let mut start = Start::with(Routes::Served);
    let begun = Instant::now();
    start.until(|reading| reading.listed).await;
    assert!(has_route(&start.readings.borrow()) && begun.elapsed() < limits::ROUTES_PATIENCE);
    start.end().await;
}

#[tokio::test(start_paused = true)]
async fn routes_that_cannot_be_read_keep_the_rest_waiting_for_a_while_and_are_taken_in_later() {
    for routes in [Routes::Forbidden, Routes::Broken, Routes::NotEstablished, Routes::Hanging] {
        let mut start = Start::with(routes);
        let begun = Instant::now();
        start.until(|reading| reading.listed).await;
        assert!(!has_route(&start.readings.borrow()) && begun.elapsed() >= limits::ROUTES_PATIENCE, "{routes:?}");
        let told: String = start.troubles.all().iter().map(ToString::to_string).collect();
        assert_eq!(told.is_empty(), routes == Routes::Hanging, "{routes:?}: {told}");
        *start.mood.lock().unwrap() = Routes::Served;
        if routes != Routes::Hanging {
            start.until(has_route).await;
        }
        start.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn routes_are_not_given_up_while_all_else_is_away_too() {
    let mut start = Start::with(Routes::Broken);
    start.core_is_there.store(false, Ordering::Relaxed);
    let later = Instant::now() + limits::ROUTES_PATIENCE * 3;
    pause::until(Some(later.into_std())).await;
    start.core_is_there.store(true, Ordering::Relaxed);
    *start.mood.lock().unwrap() = Routes::Served;
    start.until(|reading| reading.listed).await;
    assert!(has_route(&start.readings.borrow()), "it began without routes that it could have read");
    start.end().await;
}
