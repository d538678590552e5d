//! Makes the `XMesh` of Weft's default name where the kind is installed and there is none (GEP-3949): by the leader, and
//! with nothing in it but whose it is. One that is there is never touched, whoever wrote it; its status is the writer's.

use std::sync::Arc;
use std::time::Instant;

use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
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
            let missing = leads && reading.listed && !reading.objects.meshes.contains_key(DEFAULT_NAME);
            drop(reading);
            let now = Instant::now();
            let version = self.answers.version(Kind::XMesh).filter(|_| missing);
            if let Some(version) = version.filter(|_| rest.is_none_or(|end| end <= now)) {
                // What was made is read soon; and what cannot be made now may be later.
                let made = self.make(&resource(Kind::XMesh, version)).await;
                rest = Some(now + if made { limits::DISCOVERY_INTERVAL } else { limits::STATUS_RETRY });
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

    /// True if one is there now, as far as can be.
    async fn make(&self, resource: &ApiResource) -> bool {
        let spec = json!({"spec": {"controllerName": weft_crd::CONTROLLER_NAME}});
        let object = DynamicObject::new(DEFAULT_NAME, resource).data(spec);
        let meshes: Api<DynamicObject> = Api::all_with(self.client.clone(), resource);
        match meshes.create(&PostParams::default(), &object).await {
            // Somebody was faster, or the kind is gone again.
            Err(error) if !is(&error, 409) && !is(&error, 404) => {
                let access = Access { verb: "create", group: Kind::XMesh.group(), resource: Kind::XMesh.plural() };
                self.troubles.raise(TOPIC, fault(access, &error));
                false
            }
            _ => {
                self.troubles.clear(TOPIC);
                true
            }
        }
    }
}
