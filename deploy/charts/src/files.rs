//! The charts' files, as they are in this crate's folder. A test compares the lists with the folders.

/// A file's path inside its chart, and its text.
pub type File = (&'static str, &'static str);

macro_rules! files {
    ($chart:literal: $($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../", $chart, "/", $path)))),+]
    };
}

/// Weft itself.
pub const WEFT: &[File] = files!("weft":
    "Chart.yaml",
    "values.schema.json",
    "values.yaml",
    "templates/NOTES.txt",
    "templates/_names.tpl",
    "templates/admission.yaml",
    "templates/agent.yaml",
    "templates/controller-access.yaml",
    "templates/controller.yaml",
    "templates/flow-schemas.yaml",
    "templates/mesh-config.yaml",
    "templates/monitoring.yaml",
    "templates/namespace.yaml",
    "templates/quota.yaml",
    "templates/user-roles.yaml",
);

/// The definitions of Weft's kinds.
pub const WEFT_CRDS: &[File] = files!("weft-crds":
    "Chart.yaml",
    "values.yaml",
    "templates/authenticationpolicies.yaml",
    "templates/authorizationpolicies.yaml",
    "templates/meshconfigs.yaml",
    "templates/trafficpolicies.yaml",
);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn listed(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                listed(&entry.path(), &format!("{name}/"), found);
            } else {
                found.insert(name);
            }
        }
    }

    #[test]
    fn every_file_of_a_chart_is_in_its_list() {
        for (chart, files) in [("weft", WEFT), ("weft-crds", WEFT_CRDS)] {
            let mut found = BTreeSet::new();
            listed(&Path::new(env!("CARGO_MANIFEST_DIR")).join(chart), "", &mut found);
            let known: BTreeSet<String> = files.iter().map(|(path, _)| (*path).to_owned()).collect();
            assert_eq!(found, known, "{chart}");
        }
    }
}
