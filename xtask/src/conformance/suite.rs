//! The suite as a program, what is claimed of Weft, and the image of the application that its tests ask.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cluster::{BUILD, Call, Module, STRIPPED, TEST, appear, cached, fetched};
use crate::image::{self, Architecture, Image};
use crate::{run, step};

const PROGRAM: &str = "conformance";

const SUITE: Module = Module {
    folder: "conformance",
    verb: TEST,
    calls: &[Call { packages: &["."], output: PROGRAM, flags: STRIPPED, with_c: false }],
};

/// Istio's test application, which the suite's images are made of.
const ECHO: Module = Module {
    folder: "echo",
    verb: BUILD,
    calls: &[Call {
        packages: &["istio.io/istio/pkg/test/echo/cmd/client", "istio.io/istio/pkg/test/echo/cmd/server"],
        output: "./",
        flags: STRIPPED,
        with_c: false,
    }],
};

/// The core features of the two profiles, all extended ones of meshes, and those of `HTTPRoute` that some of the suite's
/// tests for meshes need: what the controller writes into an `XMesh`, one on each line.
const FEATURES: &str = include_str!("../../../controller/supported-features.txt");

/// The `XMesh` that the controller makes.
pub const MESH: &str = "weft";

/// The application's archive.
const IMAGE: &str = "echo.tar";

/// How many days the application's certificate is good. Nobody verifies it.
const CERTIFICATE_DAYS: &str = "3650";

/// Builds what is not in the cache.
pub fn ensure() -> Result<()> {
    SUITE.ensure()?;
    ECHO.ensure()?;
    appear(&image_folder()?, |draft| {
        step::quiet("write the image of the suite's application", || write_image(&draft.join(IMAGE)))
    })
}

/// The suite, as a program.
pub fn program() -> Result<PathBuf> {
    Ok(SUITE.programs()?.join(PROGRAM))
}

/// With what is claimed of Weft.
pub fn as_claimed() -> Value {
    let mut options = options();
    options["supportedFeatures"] = FEATURES.lines().collect();
    options
}

/// With what Weft says of itself.
pub fn as_introduced() -> Value {
    let mut options = options();
    options["meshName"] = MESH.into();
    options
}

fn options() -> Value {
    json!({
        // No Gateway is tested.
        "gatewayClassName": "",
        "conformanceProfiles": ["MESH-HTTP", "MESH-GRPC"],
        "cleanupBaseResources": true,
        "cleanupTestResources": true,
        "mode": "default",
        "implementation": {
            "organization": "weft",
            "project": "weft",
            "url": "https://weft.dev",
            "version": concat!("v", env!("CARGO_PKG_VERSION")),
            "contact": ["https://weft.dev/support"],
        },
    })
}

pub fn echo_image() -> Result<PathBuf> {
    Ok(image_folder()?.join(IMAGE))
}

fn image_folder() -> Result<PathBuf> {
    let mut inputs = Sha256::new();
    inputs.update(include_str!("../image.rs"));
    inputs.update(include_str!("suite.rs"));
    inputs.update(format!("{} {}", ECHO.programs()?.display(), SUITE.programs()?.display()));
    cached("echo-image", inputs)
}

fn write_image(archive: &Path) -> Result<()> {
    let root = tempfile::tempdir()?;
    let programs = root.path().join("usr/local/bin");
    fs::create_dir_all(&programs)?;
    for program in ["client", "server"] {
        fs::copy(ECHO.programs()?.join(program), programs.join(program))?;
    }
    let mut certificate = Command::new("openssl");
    certificate.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    certificate.args(["-days", CERTIFICATE_DAYS, "-subj", "/CN=echo", "-addext", "subjectAltName=DNS:echo"]);
    certificate.arg("-keyout").arg(root.path().join("cert.key")).arg("-out").arg(root.path().join("cert.crt"));
    run::captured(&mut certificate)?;
    let name = image_name()?;
    let image = Image {
        name: &name,
        architecture: Architecture::here()?,
        entrypoint: &["/usr/local/bin/server"],
        user: None,
        root: root.path(),
    };
    image::write(&image, archive)
}

/// The one that the suite's own objects ask for.
fn image_name() -> Result<String> {
    let folder = fetched(&SUITE.source(), "sigs.k8s.io/gateway-api/conformance")?;
    let objects = folder.join("mesh/manifests.yaml");
    let text = fs::read_to_string(&objects).with_context(|| format!("cannot read {}", objects.display()))?;
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
    names.dedup();
    let [name] = names[..] else { bail!("{} asks for the images {names:?}", objects.display()) };
    Ok(name.to_owned())
}
