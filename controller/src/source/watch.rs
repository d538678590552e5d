//! Looks at the directory whenever it changes, and hands on what it reads.
//!
//! A change is read at once when nothing is being read; what changes meanwhile is one more look. A file that is
//! written but not closed is read a little later. Absent: any waiting for a burst to end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{RecursiveMode, Watcher as _};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::directory::Directory;
use super::reading::Reading;
use crate::limits;

/// The file system's word, one bit each.
#[derive(Debug, Default)]
struct Changes {
    settled: Notify,
    being_written: Notify,
    /// Files that were renamed into their place since the last look, relative to the directory.
    moved: Mutex<BTreeSet<PathBuf>>,
}

impl Changes {
    fn moved(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At most [`limits::FILES`]; one that does not fit is read after the quiet time.
    fn note_moved(&self, root: &Path, paths: &[PathBuf]) {
        let mut moved = self.moved();
        for path in paths.iter().filter_map(|path| path.strip_prefix(root).ok()) {
            if moved.len() < limits::FILES {
                moved.insert(path.to_owned());
            }
        }
    }
}

/// Runs until `stop`. Each reading replaces the one before; nobody has to take every one.
pub async fn watch(
    mut directory: Directory,
    readings: watch::Sender<Arc<Reading>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let changes = Arc::new(Changes::default());
    let watcher = start(directory.root(), Arc::clone(&changes));
    if let Err(error) = &watcher {
        tracing::warn!(%error, "the directory cannot be watched; it is read every {:?}", limits::RESCAN_INTERVAL);
    }
    loop {
        // Parsing is CPU work on a thread that may take its time.
        let moved = std::mem::take(&mut *changes.moved());
        let (returned, reading) = tokio::task::spawn_blocking(move || {
            let reading = directory.read(&moved);
            (directory, reading)
        })
        .await?;
        directory = returned;
        readings.send_replace(Arc::new(reading));
        let soon = if directory.is_waiting() { limits::OPEN_FILE_QUIET } else { limits::RESCAN_INTERVAL };
        let waited = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = changes.settled.notified() => Duration::ZERO,
            () = changes.being_written.notified() => limits::OPEN_FILE_QUIET,
            () = tokio::time::sleep(soon) => Duration::ZERO,
        };
        if !waited.is_zero() {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = changes.settled.notified() => {}
                () = tokio::time::sleep(waited) => {}
            }
        }
    }
}

fn start(root: &Path, changes: Arc<Changes>) -> notify::Result<notify::RecommendedWatcher> {
    let status = root.join(crate::status::FOLDER);
    let below = root.to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
        Ok(event) if !event.paths.is_empty() && event.paths.iter().all(|path| path.starts_with(&status)) => {}
        Ok(event) => match event.kind {
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                changes.note_moved(&below, &event.paths);
                changes.settled.notify_one();
            }
            EventKind::Modify(ModifyKind::Data(_)) => changes.being_written.notify_one(),
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Create(_)
            | EventKind::Remove(_)
            | EventKind::Modify(_)
            | EventKind::Any
            | EventKind::Other => changes.settled.notify_one(),
            EventKind::Access(_) => {}
        },
        // Events were lost: look again.
        Err(_) => changes.settled.notify_one(),
    })?;
    watcher.watch(root, RecursiveMode::Recursive)?;
    Ok(watcher)
}
