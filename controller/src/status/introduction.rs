//! Makes the `XMesh` of Weft's default name where the kind is installed and there is none (GEP-3949): by the leader, and
//! with nothing in it but whose it is and who made it. One that is there is never touched, whoever wrote it; its status is
//! the writer's. None is made while Weft is being removed: `weft uninstall` deletes what was made here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::{Access, fault, is};
use crate::leader::Standing;
use crate::limits;
use crate::object::Kind;
use crate::pause;
use crate::source::Reading;
use crate::source::kubernetes::{Answers, resource};
use crate::trouble::Troubles;

/// Of the `XMesh` that is Weft's own.
pub const DEFAULT_NAME: &str = "weft";

/// The label by which `weft uninstall` knows what was made here, as everything of the charts has it.
const PART_OF: &str = "app.kubernetes.io/part-of";

const TOPIC: &str = "introduction";

#[derive(Clone)]
pub struct Introduction {
    pub client: Client,
    pub answers: Arc<Answers>,
    pub troubles: Troubles,
}

impl Introduction {
    /// Runs until `stop`, and writes while this controller leads.
    pub async fn run(
        self,
        mut readings: watch::Receiver<Arc<Reading>>,
        mut standing: watch::Receiver<Standing>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut rest: Option<Instant> = None;
        loop {
            let (leads, reading) = (standing.borrow_and_update().leads, readings.borrow_and_update().clone());
            let objects = &reading.objects;
            let missing =
                leads && reading.listed && !objects.is_removing() && !objects.meshes.contains_key(DEFAULT_NAME);
            drop(reading);
            if !missing {
                // It is there, or not to be made here.
                self.troubles.clear(TOPIC);
            }
            let now = Instant::now();
            let version = self.answers.version(Kind::XMesh).filter(|_| missing);
            if let Some(version) = version.filter(|_| rest.is_none_or(|end| end <= now)) {
                rest = Some(now + self.make(&resource(Kind::XMesh, version)).await);
            }
            // That the kind is served by now is no reading's news.
            let again = missing.then(|| Instant::now() + limits::DISCOVERY_INTERVAL);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = readings.changed() => if changed.is_err() { return Ok(()) },
                changed = standing.changed() => if changed.is_err() { return Ok(()) },
                () = pause::until(again) => {}
            }
        }
    }

    /// When it is worth another try.
    async fn make(&self, resource: &ApiResource) -> Duration {
        let spec = json!({"spec": {"controllerName": weft_crd::CONTROLLER_NAME}});
        let mut object = DynamicObject::new(DEFAULT_NAME, resource).data(spec);
        object.labels_mut().insert(PART_OF.to_owned(), "weft".to_owned());
        let meshes: Api<DynamicObject> = Api::all_with(self.client.clone(), resource);
        match meshes.create(&PostParams::default(), &object).await {
            // It is there, and yet not read: it is another controller's, and Weft has no word for what it says.
            Err(error) if is(&error, 409) => limits::STATUS_RETRY,
            // The kind is gone again.
            Err(error) if is(&error, 404) => limits::DISCOVERY_INTERVAL,
            Err(error) => {
                let access = Access { verb: "create", group: Kind::XMesh.group(), resource: Kind::XMesh.plural() };
                self.troubles.raise(TOPIC, fault(access, &error));
                limits::STATUS_RETRY
            }
            Ok(_) => {
                self.troubles.clear(TOPIC);
                limits::DISCOVERY_INTERVAL
            }
        }
    }
}
