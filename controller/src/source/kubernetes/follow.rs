//! Lists one kind and watches it from there, for ever.
//!
//! A watch that breaks goes on from where it was; one that the API server has forgotten (410) begins with a new list.
//! Not kube's own watcher: that one does not say when a broken watch is whole again, so no alarm could end.
//! Absent: what the objects are together (`collection`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, Error};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::answer::Answers;
use super::collection::Change;
use super::decode::{Found, found, key};
use super::resource;
use crate::api::{Access, Patience, fault, is, jittered};
use crate::limits;
use crate::object::{Key, Kind, Origin};
use crate::source::Defect;
use crate::trouble::Troubles;

/// Of the definitions of custom kinds.
const DEFINITIONS: Access =
    Access { verb: "get", group: "apiextensions.k8s.io", resource: "customresourcedefinitions" };

pub struct Follower {
    kind: Kind,
    client: Client,
    changes: mpsc::Sender<Change>,
    troubles: Troubles,
    answers: Arc<Answers>,
    patience: Patience,
    /// Of a custom kind, what is there: its loss is told from its emptiness.
    known: BTreeSet<Key>,
    /// Of a definition that is gone, and not made again since, also under an earlier controller. They stay.
    orphans: BTreeSet<Key>,
    /// It has been said that `known` is what a definition had that is gone.
    lost: bool,
    /// The uid of the definition that `known` is of.
    definition: Option<String>,
    listed: bool,
}

/// How a kind can be read.
struct Service {
    version: &'static str,
    /// The uid of the definition. None: it needs none.
    definition: Option<String>,
}

/// Why a custom kind cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// It is not defined (any more).
    Undefined,
    /// It is defined, in none of the versions that we read.
    Foreign,
    /// It is defined, and not served yet.
    Unready,
}

/// Why following came to a stop.
enum Stop {
    Missing(Missing),
    /// Begin with a new list.
    Forgotten,
    Failed(Access, Box<Error>),
    /// Nobody listens any more.
    Closed,
}

impl Stop {
    /// Of a custom kind, not found means that its definition has to be looked at again.
    fn at(access: Access, kind: Kind) -> impl Fn(Error) -> Self {
        let custom = kind.origin() != Origin::Core;
        move |error| {
            if custom && is(&error, 404) { Self::Forgotten } else { Self::Failed(access, Box::new(error)) }
        }
    }
}

impl Follower {
    pub fn new(
        kind: Kind,
        client: Client,
        changes: mpsc::Sender<Change>,
        troubles: Troubles,
        answers: Arc<Answers>,
        orphans: BTreeSet<Key>,
    ) -> Self {
        let (patience, known, definition) = (Patience::default(), BTreeSet::new(), None);
        let (lost, listed) = (false, false);
        Self { kind, client, changes, troubles, answers, patience, known, orphans, lost, definition, listed }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&mut self) {
        loop {
            let ended = match self.served().await {
                Ok(service) => Box::pin(self.list_and_watch(service)).await,
                Err(stop) => stop,
            };
            match ended {
                Stop::Closed => return,
                Stop::Forgotten => {
                    tracing::debug!(kind = self.kind.as_str(), "listing again");
                    self.patience.pause().await;
                }
                Stop::Missing(why) => {
                    if self.miss(why).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(jittered(limits::DISCOVERY_INTERVAL)).await;
                }
                Stop::Failed(access, error) => self.suffer(access, &error).await,
            }
        }
    }

    async fn suffer(&mut self, access: Access, error: &Error) {
        self.troubles.raise(self.kind.as_str(), fault(access, error));
        self.patience.pause().await;
    }

    fn access(&self, verb: &'static str) -> Access {
        Access { verb, group: self.kind.group(), resource: self.kind.plural() }
    }

    /// The best version that is served.
    async fn served(&self) -> Result<Service, Stop> {
        let versions = self.kind.versions();
        if self.kind.origin() == Origin::Core {
            let version = versions.first().ok_or(Stop::Missing(Missing::Foreign))?;
            return Ok(Service { version, definition: None });
        }
        let definition = Some(self.defined().await?);
        for version in versions {
            let group_version = format!("{}/{version}", self.kind.group());
            match self.client.list_api_group_resources(&group_version).await {
                Ok(list) if list.resources.iter().any(|resource| resource.name == self.kind.plural()) => {
                    return Ok(Service { version, definition });
                }
                Ok(_) => {}
                Err(error) if is(&error, 404) => {}
                Err(error) => return Err(Stop::Failed(self.access("get"), Box::new(error))),
            }
        }
        Err(Stop::Missing(self.unserved().await?))
    }

    /// Why no version is served although there is a definition: only one that has no such version is as good as none.
    async fn unserved(&self) -> Result<Missing, Stop> {
        let found = self.definitions().get_opt(&self.definition_name()).await;
        let found = found.map_err(|error| Stop::Failed(DEFINITIONS, Box::new(error)))?;
        Ok(match found {
            None => Missing::Undefined,
            Some(found) if defines(&found.data, self.kind.versions()) => Missing::Unready,
            Some(_) => Missing::Foreign,
        })
    }

    fn definitions(&self) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: DEFINITIONS.group.to_owned(),
            version: "v1".to_owned(),
            api_version: format!("{}/v1", DEFINITIONS.group),
            kind: "CustomResourceDefinition".to_owned(),
            plural: DEFINITIONS.resource.to_owned(),
        };
        Api::all_with(self.client.clone(), &resource)
    }

    fn definition_name(&self) -> String {
        format!("{}.{}", self.kind.plural(), self.kind.group())
    }

    /// The uid of the kind's definition, if it is there and is not going: with a definition, all of its objects are
    /// deleted first, and each of those deletions looks like a person's.
    async fn defined(&self) -> Result<String, Stop> {
        let found = self.definitions().get_metadata_opt(&self.definition_name()).await;
        let found = found.map_err(|error| Stop::Failed(DEFINITIONS, Box::new(error)))?;
        let lives = found.filter(|definition| definition.metadata.deletion_timestamp.is_none());
        lives.map(|definition| definition.metadata.uid.unwrap_or_default()).ok_or(Stop::Missing(Missing::Undefined))
    }

    /// The kind cannot be read. What was there stays; that nothing was ever there is worth knowing too.
    async fn miss(&mut self, why: Missing) -> Result<(), mpsc::error::SendError<Change>> {
        self.patience.reset();
        self.answers.withdraw(self.kind);
        if !self.kind.outlives_its_definition() && !std::mem::take(&mut self.known).is_empty() {
            self.changes.send(Change::Listed(self.kind, Vec::new(), BTreeSet::new())).await?;
        }
        let (kind, count) = (self.kind.as_str(), self.known.len() + self.orphans.len());
        let own = self.kind.origin() == Origin::Weft;
        let told = if count > 0 {
            let problem = format!("the API server does not serve {kind} any more; the last {count} stay in force");
            Some((problem, "install its definition again, and then its objects"))
        } else if own {
            let problem = format!("the API server does not serve Weft's own kind {kind}");
            Some((problem, "install Weft's definitions"))
        } else {
            match why {
                Missing::Unready => Some((
                    format!("{kind} is defined, and the API server does not serve it yet"),
                    "look at the conditions of its definition; what is published without it is published soon",
                )),
                Missing::Foreign => Some((
                    format!("{kind} is defined in no version that Weft reads"),
                    "install the definitions of a newer Gateway API",
                )),
                Missing::Undefined => None,
            }
        };
        match told {
            Some((problem, fix)) => self.troubles.raise(kind, defect(problem, fix)),
            None => self.troubles.clear(kind),
        }
        if !self.known.is_empty() {
            return self.lose().await;
        }
        if !own && why != Missing::Unready {
            return self.absent().await;
        }
        Ok(())
    }

    async fn lose(&mut self) -> Result<(), mpsc::error::SendError<Change>> {
        if std::mem::replace(&mut self.lost, true) {
            return Ok(());
        }
        self.changes.send(Change::Lost(self.kind)).await
    }

    async fn absent(&mut self) -> Result<(), mpsc::error::SendError<Change>> {
        if self.listed {
            return Ok(());
        }
        self.listed = true;
        self.changes.send(Change::Absent(self.kind)).await
    }

    async fn list_and_watch(&mut self, Service { version, definition }: Service) -> Stop {
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource::of(self.kind, version));
        self.answers.serve(self.kind, version);
        let mut from = match self.list(&api, definition).await {
            Ok(from) => from,
            Err(stop) => return stop,
        };
        loop {
            let begun = Instant::now();
            let watched = Box::pin(self.watch(&api, &mut from)).await;
            let lasted = begun.elapsed() >= limits::WATCH_TOO_SHORT;
            if lasted {
                self.patience.reset();
            }
            match watched {
                Ok(()) if lasted => {}
                Ok(()) => self.patience.pause().await,
                Err(Stop::Failed(access, error)) => self.suffer(access, &error).await,
                Err(stop) => return stop,
            }
        }
    }

    /// The resource version that a watch goes on from.
    async fn list(&mut self, api: &Api<DynamicObject>, definition: Option<String>) -> Result<String, Stop> {
        let mut all: Vec<Found> = Vec::new();
        let large = self.kind == Kind::Definition;
        let page = if large { limits::LIST_PAGE_OF_DEFINITIONS } else { limits::LIST_PAGE };
        let mut params = ListParams::default().limit(page);
        let from = loop {
            let page = match api.list(&params).await {
                Err(error) if is(&error, 410) => return Err(Stop::Forgotten),
                page => page.map_err(Stop::at(self.access("list"), self.kind))?,
            };
            all.extend(page.items.into_iter().map(|object| found(self.kind, object)));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break page.metadata.resource_version.unwrap_or_default(),
            }
        };
        if let Some(definition) = definition {
            // Of a definition that is going, some objects may have gone already; and of one that came meanwhile, none are.
            if self.defined().await? != definition {
                return Err(Stop::Forgotten);
            }
            self.take_in(all.iter().map(|found| found.key.clone()).collect(), definition);
            self.tell_of_orphans();
        }
        (self.listed, self.lost) = (true, false);
        self.send(Change::Listed(self.kind, all, self.orphans.clone())).await?;
        Ok(from)
    }

    /// All objects that there are under a definition. What there was under another one has not been deleted by anybody.
    fn take_in(&mut self, listed: BTreeSet<Key>, definition: String) {
        let is_another = self.definition.as_ref().is_some_and(|known| *known != definition);
        if is_another && self.kind.outlives_its_definition() {
            self.orphans.append(&mut self.known);
        }
        self.orphans.retain(|key| !listed.contains(key));
        (self.known, self.definition) = (listed, Some(definition));
    }

    /// Until the API server ends it, which it does now and then.
    async fn watch(&mut self, api: &Api<DynamicObject>, from: &mut String) -> Result<(), Stop> {
        let access = self.access("watch");
        let params = WatchParams::default().timeout(limits::WATCH_SECONDS);
        let failed = Stop::at(access, self.kind);
        let events = match api.watch(&params, from).await {
            Err(error) if is(&error, 410) => return Err(Stop::Forgotten),
            events => events.map_err(&failed)?,
        };
        self.troubles.clear(self.kind.as_str());
        tokio::pin!(events);
        while let Some(event) = events.next().await {
            match event.map_err(&failed)? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let version = object.metadata.resource_version.clone();
                    let found = found(self.kind, object);
                    self.note(&found.key);
                    self.send(Change::Applied(Box::new(found))).await?;
                    advance(from, version);
                }
                WatchEvent::Deleted(object) => {
                    let key = key(self.kind, &object);
                    self.remove(key).await?;
                    advance(from, object.metadata.resource_version);
                }
                WatchEvent::Bookmark(bookmark) => *from = bookmark.metadata.resource_version,
                WatchEvent::Error(status) if status.code == 410 => return Err(Stop::Forgotten),
                WatchEvent::Error(status) => return Err(Stop::Failed(access, Box::new(Error::Api(status.boxed())))),
            }
        }
        Ok(())
    }

    /// Of a custom kind, only when its definition is still there: then a person has deleted it.
    async fn remove(&mut self, key: Key) -> Result<(), Stop> {
        if self.kind.origin() != Origin::Core {
            let definition = self.defined().await?;
            if self.definition.as_ref() != Some(&definition) {
                return Err(Stop::Forgotten);
            }
            self.known.remove(&key);
        }
        self.send(Change::Removed(key)).await
    }

    /// There it is.
    fn note(&mut self, key: &Key) {
        if self.kind.origin() == Origin::Core {
            return;
        }
        self.known.insert(key.clone());
        if self.orphans.remove(key) {
            self.tell_of_orphans();
        }
    }

    /// An empty list under a new definition is no wish of anybody: policies would fall open all at once.
    fn tell_of_orphans(&self) {
        let topic = format!("{} of an earlier definition", self.kind.as_str());
        match self.orphans.first() {
            None => self.troubles.clear(&topic),
            Some(first) => {
                let count = self.orphans.len();
                let problem = format!("{count} {topic} stay in force, {first} among them: nobody has deleted them");
                self.troubles.raise(&topic, defect(problem, "create them again, and then delete those that should go"));
            }
        }
    }

    async fn send(&self, change: Change) -> Result<(), Stop> {
        self.changes.send(change).await.map_err(|_| Stop::Closed)
    }
}

fn advance(from: &mut String, version: Option<String>) {
    if let Some(version) = version {
        *from = version;
    }
}

/// It serves one of these versions, or will.
fn defines(definition: &serde_json::Value, versions: &[&str]) -> bool {
    let all = definition["spec"]["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().any(|version| {
        version["served"] == true && version["name"].as_str().is_some_and(|name| versions.contains(&name))
    })
}

fn defect(problem: String, fix: &str) -> Defect {
    Defect { file: None, line: 0, object: None, key: None, field: None, problem, fix: fix.to_owned() }
}

#[cfg(test)]
mod tests;
