//! The programs of a cluster, built from the Go modules in cluster/ into the developer's cache.
//!
//! Versions are those of the committed go.mod and go.sum.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::cache::{appear, cached};
use super::module::{BUILD, Call, Module, STRIPPED};
use super::node::PAUSE;
use super::place::Place;
use crate::image::{self, Architecture, Image};
use crate::step;

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

const MODULES: [Module; 4] = [
    Module {
        folder: "images",
        verb: BUILD,
        calls: &[Call { packages: &["./pause", "./podapp"], output: "./", flags: STRIPPED, with_c: false }],
    },
    Module {
        folder: "kube",
        verb: BUILD,
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
        verb: BUILD,
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
    Module {
        folder: "dns",
        verb: BUILD,
        calls: &[Call { packages: &["."], output: "coredns", flags: STRIPPED, with_c: false }],
    },
];

/// Builds what is not in the cache yet. Prints nothing when everything is there.
pub fn ensure() -> Result<()> {
    MODULES.iter().try_for_each(Module::ensure)?;
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
}
