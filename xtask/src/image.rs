//! Container images without a registry or a daemon: a folder of files and a few settings become one OCI archive, as
//! `ctr images import`, `docker load` and `skopeo` read it.
//!
//! The same input gives the same bytes: files belong to root, have no times, and come in the order of their names.
//! An image has one layer, which is held in memory while it is written. Absent: compression, layers of other images.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, Header, HeaderMode};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The machines that images are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    /// That of this machine.
    pub fn here() -> Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("no images are made for {other}"),
        }
    }

    /// What container images and Go call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// What an image is made of.
pub struct Image<'a> {
    /// With its tag, such as `registry.weft.local/pause:1`.
    pub name: &'a str,
    pub architecture: Architecture,
    /// The program that a container starts, and its first arguments.
    pub entrypoint: &'a [&'a str],
    /// Who it runs as, `USER` or `USER:GROUP` in numbers; root if there is none.
    pub user: Option<&'a str>,
    /// The folder that becomes the container's root.
    pub root: &'a Path,
}

/// A part of an archive, which other parts name by its digest.
struct Blob {
    kind: &'static str,
    digest: String,
    content: Vec<u8>,
}

impl Blob {
    fn new(kind: &'static str, content: Vec<u8>) -> Self {
        let digest = format!("{:x}", Sha256::digest(&content));
        Self { kind, digest, content }
    }

    fn of_json(kind: &'static str, value: &Value) -> Self {
        Self::new(kind, value.to_string().into_bytes())
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.kind, "digest": format!("sha256:{}", self.digest), "size": self.content.len()})
    }
}

/// Writes the archive; a file of that name is replaced at once or not at all.
pub fn write(image: &Image, destination: &Path) -> Result<()> {
    let layer = Blob::new(LAYER, layer(image.root)?);
    let configuration = Blob::of_json(CONFIGURATION, &configuration(image, &layer));
    let manifest = Blob::of_json(
        MANIFEST,
        &json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": configuration.descriptor(),
            "layers": [layer.descriptor()],
        }),
    );
    let index = index(image, &manifest);
    let folder = destination.parent().context("an archive needs a folder")?;
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    let mut archive = Builder::new(draft.as_file_mut());
    append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut archive, "index.json", index.to_string().as_bytes())?;
    for blob in [manifest, configuration, layer] {
        append(&mut archive, &format!("blobs/sha256/{}", blob.digest), &blob.content)?;
    }
    archive.finish()?;
    drop(archive);
    draft.persist(destination).with_context(|| format!("cannot write {}", destination.display()))?;
    Ok(())
}

fn configuration(image: &Image, layer: &Blob) -> Value {
    let mut settings = json!({
        "Entrypoint": image.entrypoint,
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "WorkingDir": "/",
    });
    if let Some(user) = image.user {
        settings["User"] = user.into();
    }
    json!({
        "architecture": image.architecture.name(),
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)]},
    })
}

fn index(image: &Image, manifest: &Blob) -> Value {
    let mut entry = manifest.descriptor();
    entry["platform"] = json!({"architecture": image.architecture.name(), "os": "linux"});
    // containerd reads the first, other tools the second.
    entry["annotations"] =
        json!({"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.name});
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
}

fn layer(root: &Path) -> Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    layer.mode(HeaderMode::Deterministic);
    layer.follow_symlinks(false);
    add_folder(&mut layer, root, Path::new(""))?;
    Ok(layer.into_inner()?)
}

fn add_folder(layer: &mut Builder<Vec<u8>>, folder: &Path, name: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.sort();
    for path in paths {
        let name = name.join(path.file_name().unwrap_or_default());
        layer.append_path_with_name(&path, &name).with_context(|| format!("cannot add {}", path.display()))?;
        if path.symlink_metadata()?.is_dir() {
            add_folder(layer, &path, &name)?;
        }
    }
    Ok(())
}

fn append(archive: &mut Builder<&mut File>, name: &str, content: &[u8]) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, content)?;
    archive.get_mut().flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeMap;
    use std::io::Read;

    fn files_of(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let mut files = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), content);
        }
        files
    }

    fn archive_of(root: &Path) -> Vec<u8> {
        let output = tempfile::tempdir().unwrap();
        let destination = output.path().join("image.tar");
        let image = Image {
            name: "registry.weft.local/greeting:1",
            architecture: Architecture::Arm64,
            entrypoint: &["/bin/hello"],
            user: Some("65532:65532"),
            root,
        };
        write(&image, &destination).unwrap();
        fs::read(destination).unwrap()
    }

    #[test]
    fn every_part_is_found_by_the_digest_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("bin")).unwrap();
        fs::write(root.path().join("bin/hello"), "hello").unwrap();
        std::os::unix::fs::symlink("hello", root.path().join("bin/again")).unwrap();
        let archive = archive_of(root.path());
        assert_eq!(archive, archive_of(root.path()), "the same input gives the same bytes");

        let files = files_of(&archive);
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
            let content = &files[&format!("blobs/{digest}")];
            assert_eq!(digest, format!("sha256/{:x}", Sha256::digest(content)));
            assert_eq!(descriptor["size"], content.len());
            content.clone()
        };
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let entry = &index["manifests"][0];
        assert_eq!(entry["annotations"]["io.containerd.image.name"], "registry.weft.local/greeting:1");
        let manifest: Value = serde_json::from_slice(&blob(entry)).unwrap();
        let configuration: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        assert_eq!(configuration["architecture"], "arm64");
        assert_eq!(configuration["config"]["User"], "65532:65532");
        assert_eq!(configuration["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        let layer = files_of(&blob(&manifest["layers"][0]));
        assert_eq!(layer.keys().collect::<Vec<_>>(), ["bin", "bin/again", "bin/hello"]);
        assert_eq!(layer["bin/hello"], b"hello");
    }
}
