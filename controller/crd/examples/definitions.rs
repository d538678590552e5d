//! Writes the definitions of Weft's kinds into a folder, a YAML file each: what `cargo xtask crds` puts into the chart.

use std::path::PathBuf;

use anyhow::Context as _;

const HEADING: &str = "# Written by `cargo xtask crds` from controller/crd. Do not change it here.\n";

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).context("say into which folder")?;
    for definition in weft_crd::definitions() {
        let name = format!("{}.yaml", definition.spec.names.plural);
        // Through a value, so that the order of fields is that of the alphabet.
        let text = serde_saphyr::to_string(&serde_json::to_value(definition)?)?;
        std::fs::write(folder.join(name), format!("{HEADING}{text}"))?;
    }
    Ok(())
}
