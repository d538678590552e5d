//! The programs of a cluster, built from the Go modules in cluster/ into the developer's cache.
//!
//! Every result has a folder that is named after the hash of its inputs, appears when it is complete, and is used by
//! every later cluster. Versions are those of the committed go.mod and go.sum, and the compiler is [`toolchain`]'s.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::lock;
use super::node::PAUSE;
use super::place::Place;
use crate::image::{self, Architecture, Image};
use crate::setup::toolchain::{self, Toolchain};
use crate::{run, step, workspace};

/// The version that the programs of Kubernetes tell; their module does not know it.
const KUBERNETES: &str = "v1.36.3";

/// Every one of Kubernetes' programs, in one file.
const KUBE: &str = "weft-kube";

/// The names by which the one file is called.
const KUBE_PROGRAMS: [&str; 8] = [
    "certificates",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
];

/// An image that is in every node from the start.
struct Built {
    name: &'static str,
    /// The folder of the module, and the program in it.
    program: (&'static str, &'static str),
}

const IMAGES: [Built; 3] = [
    Built { name: PAUSE, program: ("images", "pause") },
    Built { name: "registry.weft.local/coredns:1", program: ("dns", "coredns") },
    Built { name: "registry.weft.local/podapp:1", program: ("images", "podapp") },
];

/// A Go module, and the calls that build its programs.
struct Module {
    folder: &'static str,
    calls: &'static [Call],
}

#[derive(Debug)]
struct Call {
    packages: &'static [&'static str],
    /// A file, or a folder if it ends with a slash.
    output: &'static str,
    /// Words before the packages.
    flags: &'static [&'static str],
    /// Whether C is compiled too.
    with_c: bool,
}

/// The words of every call.
const BUILD: [&str; 4] = ["build", "-v", "-trimpath", "-buildvcs=false"];

/// The folder of a result that is being made.
const DRAFT: &str = ".draft-";

const STRIPPED: &[&str] = &["-ldflags", "-s -w"];

const MODULES: [Module; 4] = [
    Module {
        folder: "images",
        calls: &[Call { packages: &["./pause", "./podapp"], output: "./", flags: STRIPPED, with_c: false }],
    },
    Module {
        folder: "kube",
        calls: &[Call {
            packages: &["."],
            output: KUBE,
            flags: &[
                "-ldflags",
                "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
                 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36 \
                 -X k8s.io/component-base/version.gitTreeState=clean \
                 -X k8s.io/component-base/version.gitCommit=weft",
            ],
            with_c: false,
        }],
    },
    Module {
        folder: "node",
        calls: &[
            Call {
                packages: &[
                    "github.com/containerd/containerd/v2/cmd/containerd",
                    "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
                    "github.com/containerd/containerd/v2/cmd/ctr",
                    "./runc-without-limits",
                ],
                output: "./",
                flags: STRIPPED,
                with_c: false,
            },
            Call {
                packages: &[
                    "github.com/containernetworking/plugins/plugins/ipam/host-local",
                    "github.com/containernetworking/plugins/plugins/main/bridge",
                    "github.com/containernetworking/plugins/plugins/main/loopback",
                    "github.com/containernetworking/plugins/plugins/main/ptp",
                    "github.com/containernetworking/plugins/plugins/meta/portmap",
                ],
                output: "./cni/",
                flags: STRIPPED,
                with_c: false,
            },
            // It enters namespaces before Go's threads start, in C, and filters system calls with libseccomp.
            Call {
                packages: &["github.com/opencontainers/runc"],
                output: "./",
                flags: &["-tags", "seccomp netgo osusergo", "-ldflags", "-s -w"],
                with_c: true,
            },
        ],
    },
    Module { folder: "dns", calls: &[Call { packages: &["."], output: "coredns", flags: STRIPPED, with_c: false }] },
];

impl Module {
    fn source(&self) -> PathBuf {
        workspace::path("cluster").join(self.folder)
    }

    /// Where its programs are, or will be.
    fn programs(&self) -> Result<PathBuf> {
        let mut inputs = Sha256::new();
        inputs.update(format!("{} {BUILD:?}", toolchain::VERSION));
        for call in self.calls {
            inputs.update(format!("{call:?} {:?}", call.environment()?));
        }
        add_files(&mut inputs, &self.source())?;
        cached(self.folder, inputs)
    }

    fn ensure(&self, toolchain: &mut Option<Toolchain>) -> Result<()> {
        let programs = self.programs()?;
        appear(&programs, |draft| {
            let toolchain = match toolchain {
                Some(found) => found,
                None => toolchain.insert(toolchain::ensure()?),
            };
            self.calls.iter().try_for_each(|call| self.build(call, toolchain, draft))?;
            ensure!(self.programs()? == programs, "cluster/{} changed while it was built: run it again", self.folder);
            Ok(())
        })
    }

    fn build(&self, call: &Call, toolchain: &Toolchain, draft: &Path) -> Result<()> {
        let title = format!("build {} ({})", names(call).join(", "), self.folder);
        step::counted(&title, "packages", |count| {
            let mut go = toolchain.command();
            go.current_dir(self.source()).args(BUILD).arg("-o").arg(draft.join(call.output));
            go.args(call.flags).args(call.packages).envs(call.environment()?);
            // Go names each package as it is compiled, and what it downloads.
            run::listened(&mut go, |_| count())
        })
    }
}

impl Call {
    /// What else decides the result: everything that Go would otherwise take from the developer's environment.
    fn environment(&self) -> Result<[(&'static str, &'static str); 6]> {
        Ok([
            ("GOOS", "linux"),
            ("GOARCH", Architecture::here()?.name()),
            ("GOAMD64", "v1"),
            ("GOARM64", "v8.0"),
            ("CGO_ENABLED", if self.with_c { "1" } else { "0" }),
            ("CC", "cc"),
        ])
    }
}

/// Builds what is not in the cache yet. Prints nothing when everything is there.
pub fn ensure() -> Result<()> {
    // Found when it is first needed.
    let mut toolchain = None;
    for module in &MODULES {
        module.ensure(&mut toolchain)?;
    }
    appear(&images_folder()?, |draft| {
        step::quiet("write the images of the nodes", || IMAGES.iter().try_for_each(|image| image.write(draft)))
    })
}

/// Puts every program into the cluster's folder under its usual name, so that the cluster keeps what it started with.
pub fn link(place: &Place) -> Result<()> {
    let programs = place.programs();
    fs::create_dir_all(&programs)?;
    for name in KUBE_PROGRAMS {
        symlink(&folder_of("kube")?.join(KUBE), &programs.join(name))?;
    }
    for entry in fs::read_dir(folder_of("node")?)? {
        let entry = entry?;
        symlink(&entry.path(), &programs.join(entry.file_name()))?;
    }
    symlink(&images_folder()?, &programs.join("images"))
}

/// The file that all programs of the control plane are in.
pub fn kubernetes() -> Result<PathBuf> {
    Ok(folder_of("kube")?.join(KUBE))
}

/// The version of Kubernetes that clusters are.
pub const fn kubernetes_version() -> &'static str {
    KUBERNETES
}

impl Built {
    fn write(&self, folder: &Path) -> Result<()> {
        let (module, program) = self.program;
        let root = tempfile::tempdir()?;
        fs::copy(folder_of(module)?.join(program), root.path().join(program))?;
        let image = Image {
            name: self.name,
            architecture: Architecture::here()?,
            entrypoint: &[&self.entrypoint()],
            user: None,
            root: root.path(),
        };
        image::write(&image, &folder.join(format!("{program}.tar")))
    }

    fn entrypoint(&self) -> String {
        format!("/{}", self.program.1)
    }
}

/// Named after the programs in the images, and after the code that writes them.
fn images_folder() -> Result<PathBuf> {
    let mut inputs = Sha256::new();
    inputs.update(include_str!("../image.rs"));
    for image in &IMAGES {
        let programs = folder_of(image.program.0)?;
        inputs.update(format!("{:?} {:?} {}", image.name, image.entrypoint(), programs.display()));
    }
    cached("node-images", inputs)
}

fn folder_of(module: &str) -> Result<PathBuf> {
    let module = MODULES.iter().find(|known| known.folder == module);
    module.context("a program of a module that is not there")?.programs()
}

pub(super) fn cached(name: &str, inputs: Sha256) -> Result<PathBuf> {
    // Sixteen digits are enough to tell the builds of one developer apart.
    let hash = format!("{:x}", inputs.finalize());
    Ok(workspace::cache()?.join("cluster").join(format!("{name}-{}", &hash[..16])))
}

/// Makes a folder, unless it is there, that is complete as soon as it is there. One at a time is made in the cache.
pub(super) fn appear(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let parent = folder.parent().context("the cache has no folder")?;
    fs::create_dir_all(parent)?;
    let lock = File::open(parent)?;
    lock::take(&lock, "another build of a cluster's programs")?;
    if folder.exists() {
        return Ok(());
    }
    sweep(parent)?;
    let draft = tempfile::Builder::new().prefix(DRAFT).tempdir_in(parent)?;
    fill(draft.path())?;
    fs::rename(draft.path(), folder).with_context(|| format!("cannot write {}", folder.display()))
}

/// Removes what killed builds left. The caller holds the lock, so none of it is being made.
fn sweep(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(DRAFT.as_bytes()) {
            fs::remove_dir_all(entry.path()).with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// The names and contents of all files below a folder, in the order of their names.
pub(super) fn add_files(inputs: &mut Sha256, folder: &Path) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.sort();
    for path in paths {
        inputs.update(format!("{:?} {:?}", path.file_name(), path.is_dir()));
        if path.is_dir() {
            add_files(inputs, &path)?;
        } else {
            // Of one length, so that no content can pass for the name behind it.
            inputs.update(Sha256::digest(fs::read(&path)?));
        }
    }
    Ok(())
}

fn names(call: &Call) -> Vec<&'static str> {
    if !call.output.ends_with('/') {
        return vec![call.output];
    }
    call.packages.iter().map(|package| package.rsplit('/').next().unwrap_or(package)).collect()
}

fn symlink(target: &Path, link: &Path) -> Result<()> {
    std::os::unix::fs::symlink(target, link).with_context(|| format!("cannot write {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_that_programs_tell_is_the_one_they_are() {
        let kube = MODULES.iter().find(|module| module.folder == "kube").unwrap();
        let minor = KUBERNETES.split('.').nth(1).unwrap();
        let flags = kube.calls[0].flags.concat();
        assert!(flags.contains(&format!("gitVersion={KUBERNETES} ")), "{flags}");
        assert!(flags.contains(&format!("gitMinor={minor} ")), "{flags}");
        let requirements = fs::read_to_string(kube.source().join("go.mod")).unwrap();
        assert!(requirements.contains(&format!("k8s.io/kubernetes {KUBERNETES}")));
    }

    #[test]
    fn what_is_made_is_there_at_once_or_not_at_all() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("kube");
        let left = cache.path().join(format!("{DRAFT}killed"));
        fs::create_dir(&left).unwrap();
        assert!(appear(&folder, |draft| Ok(fs::write(draft.join("missing/kubelet"), "")?)).is_err());
        assert!(!folder.exists() && !left.exists());
        appear(&folder, |draft| Ok(fs::write(draft.join("kubelet"), "")?)).unwrap();
        appear(&folder, |_| panic!("it is there")).unwrap();
        let names: Vec<_> = fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["kube"]);
    }

    #[test]
    fn a_change_of_any_input_is_another_result() {
        let folder = tempfile::tempdir().unwrap();
        let hash = || {
            let mut inputs = Sha256::new();
            add_files(&mut inputs, folder.path()).unwrap();
            format!("{:x}", inputs.finalize())
        };
        let mut seen = vec![hash()];
        for (name, content) in [("go.mod", "a"), ("go.mod", "b"), ("main.go", "b")] {
            fs::write(folder.path().join(name), content).unwrap();
            assert!(!seen.contains(&hash()), "{name} {content}");
            seen.push(hash());
        }
    }
}
