//! `<directory>/.status`: one file per policy or route, and `errors.yaml` with everything that could not be read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::Value as Json;

use super::written::{Status, since, status};
use super::{FOLDER, PolicyReport, Reports};
use crate::object::Key;
use crate::source::Defect;

#[derive(Debug)]
pub struct StatusFolder {
    root: PathBuf,
    /// What the files say; None before the first look at what an earlier controller left.
    written: BTreeMap<Key, Written>,
    defects: Option<Vec<Defect>>,
}

#[derive(Debug, Default)]
struct Written {
    reports: Vec<PolicyReport>,
    entries: Vec<Json>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyFile<'a> {
    api_version: String,
    kind: &'static str,
    metadata: Metadata<'a>,
    status: Status,
}

#[derive(serde::Serialize)]
struct Metadata<'a> {
    namespace: &'a str,
    name: &'a str,
}

#[derive(serde::Serialize)]
struct ErrorsFile<'a> {
    errors: &'a [Defect],
}

impl StatusFolder {
    /// Below `directory`. What an earlier controller left there is removed: it says nothing about now.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        let root = directory.join(FOLDER);
        let failure = fs::remove_dir_all(&root).err().filter(|error| error.kind() != io::ErrorKind::NotFound);
        if let Some(error) = failure {
            tracing::warn!(%error, folder = %root.display(), "cannot empty the status folder");
        }
        Self { root, written: BTreeMap::new(), defects: None }
    }

    /// Writes what is different from what the files say. A failure is logged and tried again at the next change.
    pub fn write(&mut self, policies: &Reports, defects: &[Defect], now: Timestamp) {
        let gone: Vec<Key> = self.written.keys().filter(|key| policies.get(key).is_none()).cloned().collect();
        for key in gone {
            self.written.remove(&key);
            if let Some(path) = self.path(&key) {
                note(&fs::remove_file(&path), &path);
            }
        }
        for (key, reports) in policies.iter() {
            let nothing = Written::default();
            let known = self.written.get(key).unwrap_or(&nothing);
            if !known.reports.is_empty() && known.reports == *reports {
                continue;
            }
            let Some(path) = self.path(key) else { continue };
            let metadata = Metadata { namespace: &key.namespace, name: &key.name };
            let status = status(reports, &known.entries, now);
            let entries = status.entries();
            let file = PolicyFile { api_version: key.kind.api_version(), kind: key.kind.as_str(), metadata, status };
            if note(&write(&path, &file), &path) {
                for report in reports.iter().filter(|report| since(report, &known.entries).is_none()) {
                    tracing::info!(policy = %key, target = report.target, reason = report.reason.as_str(), "{}", report.message);
                }
                self.written.insert(key.clone(), Written { reports: reports.clone(), entries });
            }
        }
        if self.defects.as_deref() != Some(defects) {
            let path = self.root.join("errors.yaml");
            if note(&write(&path, &ErrorsFile { errors: defects }), &path) {
                self.defects = Some(defects.to_vec());
            }
        }
    }

    /// None for names that are none: whatever came in, nothing outside the status folder is ever written or removed.
    fn path(&self, key: &Key) -> Option<PathBuf> {
        let file = || self.root.join(key.kind.as_str()).join(&key.namespace).join(format!("{}.yaml", key.name));
        key.is_valid().then(file)
    }
}

/// True if it went well.
fn note(result: &io::Result<()>, path: &Path) -> bool {
    if let Err(error) = result {
        tracing::warn!(%error, file = %path.display(), "cannot write the status");
    }
    result.is_ok()
}

fn write(path: &Path, content: &impl serde::Serialize) -> io::Result<()> {
    let text = serde_saphyr::to_string(content).map_err(io::Error::other)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("new");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::object::{Kind, Parent, Target};
    use crate::source::Reading;
    use crate::status::policy::Conditions;
    use crate::status::{Aspect, Exceptions, PolicyCondition, Reason, Subject};

    fn reports(key: Key, conditions: Vec<PolicyCondition>) -> Reports {
        let conditions = Arc::new(Conditions::from([(key, conditions)]));
        let reading = Reading::default();
        let exceptions = Exceptions::of(&reading, BTreeMap::new());
        Reports::default().next([(&Arc::from("shop"), &conditions)].into_iter(), &exceptions)
    }

    fn policies(name: &str, reason: Reason) -> Reports {
        let key = Key { kind: Kind::AuthorizationPolicy, namespace: "shop".to_owned(), name: name.to_owned() };
        let subject = Subject::Target(Target::Pods(BTreeMap::new()));
        let (aspect, message, generation) = (Aspect::Accepted, "because".to_owned(), None);
        let condition = PolicyCondition { subject, aspect, reason, message, generation };
        reports(key, vec![condition])
    }

    #[test]
    fn a_name_leads_nowhere_outside_the_status_folder() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("deny.yaml");
        fs::write(&victim, "theirs").unwrap();
        let mut folder = StatusFolder::new(directory.path());
        folder.write(&policies("../../../deny", Reason::Accepted), &[], Timestamp::UNIX_EPOCH);
        folder.write(&Reports::default(), &[], Timestamp::UNIX_EPOCH);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "theirs");
    }

    #[test]
    fn a_routes_status_has_all_conditions_of_a_parent_together() {
        let directory = tempfile::tempdir().unwrap();
        let key = Key { kind: Kind::HttpRoute, namespace: "shop".to_owned(), name: "web".to_owned() };
        let parent = |port| Parent {
            group: String::new(),
            namespace: None,
            name: "web".to_owned(),
            port: Some(port),
            section: None,
        };
        let condition = |port, aspect, reason| PolicyCondition {
            subject: Subject::Parent(parent(port)),
            aspect,
            reason,
            message: "because".to_owned(),
            generation: Some(7),
        };
        let conditions = vec![
            condition(80, Aspect::Accepted, Reason::Accepted),
            condition(80, Aspect::PartiallyInvalid, Reason::UnsupportedValue),
            condition(80, Aspect::ResolvedRefs, Reason::BackendNotFound),
            condition(81, Aspect::Accepted, Reason::NoMatchingParent),
        ];
        let mut folder = StatusFolder::new(directory.path());
        folder.write(&reports(key, conditions), &[], Timestamp::UNIX_EPOCH);
        let text = fs::read_to_string(directory.path().join(".status/HTTPRoute/shop/web.yaml")).unwrap();
        let written: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(written["apiVersion"], "gateway.networking.k8s.io/v1");
        let told = |parent: &serde_json::Value| {
            let conditions = parent["conditions"].as_array().unwrap().iter();
            let one = |found: &serde_json::Value| {
                assert_eq!(found["observedGeneration"], 7);
                format!("{}={}/{}", found["type"], found["status"], found["reason"]).replace('"', "")
            };
            (parent["parentRef"]["port"].as_u64().unwrap(), conditions.map(one).collect::<Vec<_>>())
        };
        let parents: Vec<_> = written["status"]["parents"].as_array().unwrap().iter().map(told).collect();
        let first =
            ["Accepted=True/Accepted", "PartiallyInvalid=True/UnsupportedValue", "ResolvedRefs=False/BackendNotFound"];
        assert_eq!(
            parents,
            [(80, first.map(str::to_owned).to_vec()), (81, vec!["Accepted=False/NoMatchingParent".to_owned()])]
        );
    }

    #[test]
    fn a_status_is_written_on_transitions_only_and_goes_with_its_policy() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(".status/AuthorizationPolicy/shop/web.yaml");
        let mut folder = StatusFolder::new(directory.path());
        folder.write(&policies("web", Reason::Accepted), &[], Timestamp::UNIX_EPOCH);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("reason: Accepted") && text.contains("1970-01-01"), "{text}");
        fs::remove_file(&file).unwrap();
        folder.write(&policies("web", Reason::Accepted), &[], Timestamp::now());
        assert!(!file.exists(), "an unchanged status was written again");
        folder.write(&policies("web", Reason::TargetNotFound), &[], Timestamp::now());
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("status: \"False\"") && text.contains("reason: TargetNotFound"), "{text}");
        assert!(!text.contains("1970-01-01"), "the transition kept the old time");
        folder.write(&Reports::default(), &[], Timestamp::now());
        assert!(!file.exists(), "the status outlived its policy");
    }
}
