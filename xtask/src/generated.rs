//! Committed files that a command makes: written where they differ, and compared by lint.

use std::path::Path;

use anyhow::{Context, Result};

use super::workspace;

/// Writes generated files into a folder of the repository, and says which changed.
pub fn write(folder: &str, files: Vec<(String, String)>) -> Result<()> {
    let target = workspace::path(folder);
    std::fs::create_dir_all(&target)?;
    for (name, content) in files {
        let file = target.join(&name);
        if std::fs::read_to_string(&file).is_ok_and(|old| old == content) {
            println!("{folder}/{name}: unchanged");
        } else {
            std::fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
            println!("{folder}/{name}: written");
        }
    }
    Ok(())
}

/// The first file of a folder of the repository whose content is not the generated one.
pub fn stale(folder: &str, files: &[(String, String)]) -> Option<String> {
    let committed = |name: &str| std::fs::read_to_string(workspace::path(folder).join(name)).unwrap_or_default();
    files.iter().find(|(name, content)| committed(name) != *content).map(|(name, _)| format!("{folder}/{name}"))
}

/// The names and contents of a folder's files.
pub fn read(folder: &Path) -> Result<Vec<(String, String)>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        files.push((entry.file_name().to_string_lossy().into_owned(), std::fs::read_to_string(entry.path())?));
    }
    files.sort();
    Ok(files)
}
