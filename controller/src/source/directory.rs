//! A directory of YAML files as objects, with the last good version of everything that is broken now.
//!
//! `read` looks at all files once; who calls it, and when, is `watch`'s business. Folders and files whose name
//! begins with a dot are left alone (`.status` is ours).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest as _, Sha256};
use weft_proto::names::WorkloadUid;

use super::defect::Defect;
use super::document;
use super::kept::{self, Kept};
use super::read::{Read, read};
use super::reading::{self, Reading, Suspects};
use crate::limits;
use crate::object::{Key, Kind, Object};
use crate::store::Objects;

#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    /// Parsed files by relative path; unchanged content is not parsed again.
    files: BTreeMap<PathBuf, File>,
    /// What is in use, and the file that it came from.
    current: BTreeMap<Key, Origin>,
    objects: Objects,
    listed: bool,
    /// Files and folders that the last look could not see into: what they held stays as it was.
    unread: BTreeSet<PathBuf>,
    /// Files that may be half written, since when they are waited for: what they held stays as it was.
    waiting: BTreeMap<PathBuf, Instant>,
    /// [`limits::OPEN_FILE_QUIET`], but for tests.
    quiet: Duration,
    /// Where last good versions outlive this process, and what is there.
    kept_file: PathBuf,
    kept: Vec<Kept>,
    suspects: Suspects,
}

#[derive(Debug)]
struct File {
    digest: [u8; 32],
    inode: u64,
    documents: Vec<Read>,
}

#[derive(Debug, Clone)]
struct Origin {
    file: PathBuf,
    object: Object,
    text: Arc<str>,
}

impl Directory {
    /// `kept_file` is in the state directory.
    #[must_use]
    pub fn open(root: impl Into<PathBuf>, kept_file: impl Into<PathBuf>) -> Self {
        let kept_file = kept_file.into();
        let loaded = kept::load(&kept_file);
        let origin = |(kept, object): &(Kept, Object)| {
            let (file, text) = (kept.file.clone(), Arc::from(kept.text.as_str()));
            (object.key(), Origin { file, object: object.clone(), text })
        };
        let current = loaded.iter().map(origin).collect();
        let kept = loaded.into_iter().map(|(kept, _)| kept).collect();
        Self {
            root: root.into(),
            files: BTreeMap::new(),
            current,
            objects: Objects::default(),
            listed: false,
            unread: BTreeSet::new(),
            waiting: BTreeMap::new(),
            quiet: limits::OPEN_FILE_QUIET,
            kept_file,
            kept,
            suspects: Suspects::default(),
        }
    }

    /// Reads files however young they are.
    #[cfg(test)]
    #[must_use]
    pub fn impatient(root: impl Into<PathBuf>, kept_file: impl Into<PathBuf>) -> Self {
        Self { quiet: Duration::ZERO, ..Self::open(root, kept_file) }
    }

    /// Some file was too young to be read: another look is due after the quiet time.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads what changed. Never fails: what cannot be read is a defect and stays as it was. Files of `moved` were renamed
    /// into their place, so they are whole however young they are.
    pub fn read(&mut self, moved: &BTreeSet<PathBuf>) -> Reading {
        let mut defects = Vec::new();
        match list(&self.root, &mut defects) {
            Ok(listing) => {
                self.waiting.retain(|path, _| listing.files.contains(path));
                let whole = listing.unread.is_empty();
                self.unread = listing.unread;
                let (paths, unread) = (&listing.files, &self.unread);
                self.files.retain(|path, _| paths.contains(path) || is_below(path, unread));
                for path in listing.files {
                    let moved = moved.contains(&path);
                    self.read_file(path, moved);
                }
                // Before the first whole listing, what is hidden is unknown, and must not count as absent.
                self.listed |= whole && self.waiting.is_empty();
            }
            Err(error) => defects.push(whole_file(
                PathBuf::from("."),
                format!("the directory cannot be read: {error}"),
                "make it readable; all objects stay in use until then",
            )),
        }
        self.assemble(defects)
    }

    fn read_file(&mut self, path: PathBuf, moved: bool) {
        let found = open(&self.root.join(&path));
        if let Ok((_, stamp)) = &found
            && !moved
            && self.may_be_half_written(&path, *stamp)
        {
            return;
        }
        self.waiting.remove(&path);
        let inode = found.as_ref().map_or(0, |(_, stamp)| stamp.inode);
        let documents = match found.and_then(|(file, _)| content(file)) {
            Ok(text) => {
                let digest: [u8; 32] = Sha256::digest(&text).into();
                if let Some(file) = self.files.get_mut(&path).filter(|file| file.digest == digest) {
                    file.inode = inode;
                    return;
                }
                // An editor that truncates before it writes must not delete objects for a moment.
                if text.trim().is_empty() && self.current.values().any(|origin| origin.file == path) {
                    vec![unreadable(&path, "the file is empty".to_owned(), "delete it to remove its objects")]
                } else {
                    let documents = document::split(&text).iter().map(|document| read(&path, document)).collect();
                    self.files.insert(path, File { digest, inode, documents });
                    return;
                }
            }
            // Gone between listing and reading: the next look will not list it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.files.remove(&path);
                return;
            }
            Err(error) => {
                vec![unreadable(
                    &path,
                    format!("it cannot be read: {error}"),
                    "repair it; its objects stay in use until then",
                )]
            }
        };
        self.files.insert(path, File { digest: [0; 32], inode, documents });
    }

    /// Written a moment ago, in place or anew. A file that was renamed over the known one is whole.
    fn may_be_half_written(&mut self, path: &Path, stamp: Stamp) -> bool {
        let replaced = self.files.get(path).is_some_and(|file| file.inode != stamp.inode);
        if replaced || stamp.age >= self.quiet {
            return false;
        }
        let since = *self.waiting.entry(path.to_owned()).or_insert_with(Instant::now);
        since.elapsed() < limits::OPEN_FILE_PATIENCE
    }

    fn assemble(&mut self, mut defects: Vec<Defect>) -> Reading {
        let mut next: BTreeMap<Key, (Origin, u64)> = BTreeMap::new();
        let mut broken = BTreeSet::new();
        let mut unclear = BTreeSet::new();
        let mut mesh_is_broken = false;
        for (path, file) in &self.files {
            for document in &file.documents {
                match document {
                    Read::Object { line, object, text } => {
                        let origin = Origin { file: path.clone(), object: object.clone(), text: Arc::clone(text) };
                        self.claim(&mut next, origin, *line, &mut defects);
                    }
                    Read::Foreign => {}
                    Read::Broken { kind, key, defects: found } => {
                        mesh_is_broken |= *kind == Some(Kind::MeshConfig);
                        defects.extend(found.iter().cloned());
                        match key {
                            Some(key) => {
                                broken.insert(key.clone());
                            }
                            None => {
                                unclear.insert(path.clone());
                            }
                        }
                    }
                }
            }
        }
        let mut kept = Vec::new();
        for (key, origin) in &self.current {
            if !next.contains_key(key) && self.stays(key, &origin.file, &broken, &unclear) {
                next.insert(key.clone(), (origin.clone(), 0));
                kept.push(Kept { file: origin.file.clone(), text: origin.text.to_string(), orphan: false });
            }
        }
        self.keep(kept);
        self.current = next.into_iter().map(|(key, (origin, _))| (key, origin)).collect();
        let mut objects = unique_uids(&self.current, &mut defects);
        let hopeless = broken.into_iter().filter(|key| !self.current.contains_key(key));
        let stand_ins = self.suspects.stand_ins(hopeless, self.listed);
        objects.extend(stand_ins.iter().map(reading::stand_in));
        self.objects.become_these(objects);
        let objects = self.objects.clone();
        let withheld = mesh_is_broken && objects.mesh_config.is_none();
        defects.sort();
        defects.truncate(limits::DEFECTS);
        Reading { objects, defects, broken: BTreeMap::new(), stand_ins, withheld, listed: self.listed }
    }

    /// What no file says now, but no file takes back either.
    fn stays(&self, key: &Key, file: &Path, broken: &BTreeSet<Key>, unclear: &BTreeSet<PathBuf>) -> bool {
        !self.listed
            || broken.contains(key)
            || unclear.contains(file)
            || is_below(file, &self.unread)
            || self.waiting.contains_key(file)
    }

    fn keep(&mut self, kept: Vec<Kept>) {
        // Before the first look nothing is known to be repaired.
        if self.listed && kept != self.kept {
            kept::save(&self.kept_file, &kept);
            self.kept = kept;
        }
    }

    /// One object in two places: the place that it is known from stays; without one, the first by name.
    fn claim(&self, next: &mut BTreeMap<Key, (Origin, u64)>, origin: Origin, line: u64, defects: &mut Vec<Defect>) {
        let key = origin.object.key();
        let known = self.current.get(&key).map(|known| &known.file);
        match next.entry(key.clone()) {
            Entry::Vacant(entry) => {
                entry.insert((origin, line));
            }
            Entry::Occupied(mut entry) => {
                let replaces = known == Some(&origin.file) && known != Some(&entry.get().0.file);
                let (loser, loser_line) = if replaces { entry.insert((origin, line)) } else { (origin, line) };
                let (winner, winner_line) = entry.get();
                defects.push(Defect {
                    file: Some(loser.file),
                    line: loser_line,
                    object: Some(key.to_string()),
                    key: Some(key.clone()),
                    field: None,
                    problem: format!("the same object is in {}:{winner_line}, which is in use", winner.file.display()),
                    fix: "keep one of the two".to_owned(),
                });
            }
        }
    }
}

/// Two pods with one uid would share an identity: the second by name is left out.
fn unique_uids(current: &BTreeMap<Key, Origin>, defects: &mut Vec<Defect>) -> Vec<Object> {
    let mut seen: HashMap<WorkloadUid, &Key> = HashMap::new();
    let mut objects = Vec::with_capacity(current.len());
    for (key, origin) in current {
        if let Object::Pod(pod) = &origin.object {
            if let Some(first) = seen.get(&pod.uid) {
                defects.push(Defect {
                    file: Some(origin.file.clone()),
                    line: 0,
                    object: Some(key.to_string()),
                    key: Some(key.clone()),
                    field: Some("metadata.uid".to_owned()),
                    problem: format!("{first} has the same uid {}", pod.uid),
                    fix: "a uid is unique for ever: write another, or leave it out".to_owned(),
                });
                continue;
            }
            seen.insert(pod.uid.clone(), key);
        }
        objects.push(origin.object.clone());
    }
    objects
}

fn whole_file(file: PathBuf, problem: String, fix: &str) -> Defect {
    Defect { file: Some(file), line: 0, object: None, key: None, field: None, problem, fix: fix.to_owned() }
}

fn unreadable(path: &Path, problem: String, fix: &str) -> Read {
    Read::Broken { kind: None, key: None, defects: vec![whole_file(path.to_owned(), problem, fix)] }
}

/// When a file was written, and which one it is.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    /// Of a file from the future, longer than any.
    age: Duration,
    inode: u64,
}

fn open(path: &Path) -> io::Result<(fs::File, Stamp)> {
    let file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    let age = SystemTime::now().duration_since(metadata.modified()?).unwrap_or(Duration::MAX);
    Ok((file, Stamp { age, inode: metadata.ino() }))
}

/// At most [`limits::FILE_BYTES`]; UTF-8.
fn content(file: fs::File) -> io::Result<String> {
    let mut text = String::new();
    let read = file.take(limits::FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > limits::FILE_BYTES {
        return Err(io::Error::other(format!("it is larger than {} bytes", limits::FILE_BYTES)));
    }
    Ok(text)
}

/// What one look at the names gave; paths are relative to the root.
#[derive(Debug, Default)]
struct Listing {
    files: BTreeSet<PathBuf>,
    /// What is there and cannot be seen into.
    unread: BTreeSet<PathBuf>,
}

impl Listing {
    /// A path that could not be looked at. Only one that is not there takes its objects with it.
    fn miss(&mut self, path: PathBuf, error: &io::Error, defects: &mut Vec<Defect>) {
        if error.kind() != io::ErrorKind::NotFound {
            let fix = "make it readable; the objects that it held stay in use until then";
            defects.push(whole_file(path.clone(), format!("it cannot be looked at: {error}"), fix));
            self.unread.insert(path);
        }
    }
}

/// YAML files below `root`. A folder or file that cannot be looked at is a defect; the root is an error.
fn list(root: &Path, defects: &mut Vec<Defect>) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let mut folders = vec![(PathBuf::new(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = match fs::read_dir(root.join(&folder)) {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(error),
            Err(error) => {
                listing.miss(folder, &error, defects);
                continue;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if depth == 0 => return Err(error),
                Err(error) => {
                    listing.miss(folder.clone(), &error, defects);
                    break;
                }
            };
            let path = folder.join(entry.file_name());
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            // Follows symlinks, as directories mounted from a cluster are made of them.
            match fs::metadata(entry.path()) {
                Ok(found) if found.is_dir() && depth < limits::FOLDER_DEPTH => folders.push((path, depth + 1)),
                Ok(found) if found.is_file() && is_yaml(&path) => {
                    listing.files.insert(path);
                }
                Ok(_) => {}
                Err(error) => listing.miss(path, &error, defects),
            }
        }
        if listing.files.len() > limits::FILES {
            return Err(io::Error::other(format!("it holds more than {} files", limits::FILES)));
        }
    }
    Ok(listing)
}

/// The path, or a folder that it is in, is among `places`.
fn is_below(path: &Path, places: &BTreeSet<PathBuf>) -> bool {
    path.ancestors().any(|ancestor| places.contains(ancestor))
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

#[cfg(test)]
mod tests;
