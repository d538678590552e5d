//! `<directory>/.status`: one file per policy, and `errors.yaml` with everything that could not be read.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use weft_crd::{Ancestor, AncestorReference, Condition, ConditionStatus, PolicyStatus};

use super::{FOLDER, PolicyReport};
use crate::object::Key;
use crate::source::Defect;

#[derive(Debug)]
pub struct StatusFolder {
    root: PathBuf,
    /// What the files say; None before the first look at what an earlier controller left.
    written: BTreeMap<Key, Vec<PolicyReport>>,
    defects: Option<Vec<Defect>>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyFile<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    status: PolicyStatus,
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
        if let Err(error) = fs::remove_dir_all(&root) {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, folder = %root.display(), "cannot empty the status folder");
            }
        }
        Self { root, written: BTreeMap::new(), defects: None }
    }

    /// Writes what is different from what the files say. A failure is logged and tried again at the next change.
    pub fn write(&mut self, policies: BTreeMap<Key, Vec<PolicyReport>>, defects: &[Defect], now: Timestamp) {
        let gone: Vec<Key> = self.written.keys().filter(|key| !policies.contains_key(*key)).cloned().collect();
        for key in gone {
            self.written.remove(&key);
            note(fs::remove_file(self.path(&key)), &self.path(&key));
        }
        for (key, reports) in policies {
            if self.written.get(&key) == Some(&reports) {
                continue;
            }
            let status = status(&key, &reports, now);
            let path = self.path(&key);
            let metadata = Metadata { namespace: &key.namespace, name: &key.name };
            let file = PolicyFile { api_version: key.kind.api_version(), kind: key.kind.as_str(), metadata, status };
            if note(write(&path, &file), &path) {
                for report in &reports {
                    tracing::info!(policy = %key, target = report.target, reason = report.reason.as_str(), "{}", report.message);
                }
                self.written.insert(key, reports);
            }
        }
        if self.defects.as_deref() != Some(defects) {
            let path = self.root.join("errors.yaml");
            if note(write(&path, &ErrorsFile { errors: defects }), &path) {
                self.defects = Some(defects.to_vec());
            }
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.kind.as_str()).join(&key.namespace).join(format!("{}.yaml", key.name))
    }
}

/// True if it went well.
fn note(result: io::Result<()>, path: &Path) -> bool {
    if let Err(error) = &result {
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

fn status(key: &Key, reports: &[PolicyReport], now: Timestamp) -> PolicyStatus {
    let ancestors = reports.iter().take(16).map(|report| Ancestor {
        ancestor_ref: AncestorReference {
            group: String::new(),
            kind: if report.target.starts_with("Service") { "Service" } else { "Pod" }.to_owned(),
            namespace: Some(key.namespace.clone()),
            name: report.target.clone(),
            section_name: None,
        },
        controller_name: weft_crd::CONTROLLER_NAME.to_owned(),
        conditions: vec![Condition {
            type_: "Accepted".to_owned(),
            status: if report.accepted { ConditionStatus::True } else { ConditionStatus::False },
            reason: report.reason.as_str().to_owned(),
            message: report.message.clone(),
            last_transition_time: now.to_string(),
            observed_generation: None,
        }],
    });
    PolicyStatus { ancestors: ancestors.collect() }
}
