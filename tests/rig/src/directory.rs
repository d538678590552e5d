//! The directory that the controller watches: one object per file, replaced as a whole.
//!
//! A reader never sees half a file: each is written under a name that no reader looks at and renamed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::yaml;

/// Kind, namespace (empty for cluster-wide kinds) and name.
type Key = (String, String, String);

/// The objects, and the folder that shows them.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    objects: BTreeMap<Key, Value>,
}

impl Directory {
    /// An empty directory.
    pub fn create(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path, objects: BTreeMap::new() })
    }

    /// The folder to give to the controller.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An object.
    #[must_use]
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(kind.to_owned(), namespace.to_owned(), name.to_owned()))
    }

    /// The objects of one kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |(key, _)| key.0 == kind).map(|(_, object)| object)
    }

    /// Creates or replaces an object; an unchanged one is left alone. Returns its file.
    pub fn apply(&mut self, object: Value) -> Result<PathBuf> {
        let key = key_of(&object)?;
        let file = self.file(&key);
        if self.objects.get(&key) != Some(&object) {
            self.write(&file, &yaml::document(&object))?;
            self.objects.insert(key, object);
        }
        Ok(file)
    }

    /// Changes an object that is there. Returns its file.
    pub fn edit(
        &mut self,
        kind: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Result<PathBuf> {
        let key = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        let object = self.objects.get(&key).with_context(|| format!("there is no {kind} {namespace}/{name}"))?;
        let mut object = object.clone();
        change(&mut object);
        self.apply(object)
    }

    /// Sets a label of an object, or takes it off. Returns its file.
    pub fn label(
        &mut self,
        kind: &str,
        namespace: &str,
        name: &str,
        label: &str,
        value: Option<&str>,
    ) -> Result<PathBuf> {
        self.edit(kind, namespace, name, |object| {
            let labels = &mut object["metadata"]["labels"];
            if labels.is_null() {
                *labels = json!({});
            }
            match value {
                Some(value) => labels[label] = json!(value),
                None => {
                    labels.as_object_mut().and_then(|labels| labels.remove(label));
                }
            }
        })
    }

    /// Takes an object away.
    pub fn remove(&mut self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        let key = (kind.to_owned(), namespace.to_owned(), name.to_owned());
        self.objects.remove(&key).with_context(|| format!("there is no {kind} {namespace}/{name}"))?;
        Ok(fs::remove_file(self.file(&key))?)
    }

    /// Writes a file with any text in it, for what a hasty person might save there.
    pub fn write_raw(&self, file_name: &str, text: &str) -> Result<PathBuf> {
        let file = self.path.join(file_name);
        self.write(&file, text)?;
        Ok(file)
    }

    fn write(&self, file: &Path, text: &str) -> Result<()> {
        let draft = self.path.join(".draft");
        fs::write(&draft, text)?;
        fs::rename(&draft, file).with_context(|| format!("cannot write {}", file.display()))
    }

    fn file(&self, (kind, namespace, name): &Key) -> PathBuf {
        let words = [kind.to_ascii_lowercase(), namespace.clone(), name.clone()];
        let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
        self.path.join(format!("{}.yaml", words.join("-")))
    }
}

fn key_of(object: &Value) -> Result<Key> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let kind = text(&object["kind"]).context("an object without a kind")?;
    let name = text(&object["metadata"]["name"]).context("an object without a name")?;
    Ok((kind, text(&object["metadata"]["namespace"]).unwrap_or_default(), name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    #[test]
    fn an_edit_replaces_the_file_and_nothing_else_lies_around() {
        let folder = tempfile::tempdir().unwrap();
        let mut directory = Directory::create(folder.path().join("objects")).unwrap();
        directory.apply(object::namespace("shop", &[])).unwrap();
        let file = directory.label("Namespace", "", "shop", "weft.dev/capture", Some("enabled")).unwrap();
        assert!(fs::read_to_string(&file).unwrap().contains("weft.dev/capture: enabled"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        directory.label("Namespace", "", "shop", "weft.dev/capture", None).unwrap();
        assert!(!fs::read_to_string(&file).unwrap().contains("capture"));
        directory.remove("Namespace", "", "shop").unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
