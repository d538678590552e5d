//! Trees as kubelets make them on the distributions that people run.

use super::*;

const UID: &str = "1b0c6a4e-93f5-4f0e-8f1b-0d9c5e1f7a11";
const SLICE_UID: &str = "1b0c6a4e_93f5_4f0e_8f1b_0d9c5e1f7a11";

/// What a machine's tree is called, folders in it, and where pods and the one pod are.
const TREES: [(&str, &[&str], &str, &str); 8] = [
    (
        "kubeadm with containerd, systemd driver",
        &[
            "init.scope",
            "system.slice/kubelet.service",
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU.slice/cri-containerd-1.scope",
        ],
        "kubepods.slice",
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU.slice",
    ),
    (
        "CRI-O",
        &["kubepods.slice/kubepods-podU.slice/crio-1.scope", "kubepods.slice/kubepods-podU.slice/crio-conmon-1.scope"],
        "kubepods.slice",
        "kubepods.slice/kubepods-podU.slice",
    ),
    ("cgroupfs driver", &["user.slice", "kubepods/besteffort/podU/1"], "kubepods", "kubepods/besteffort/podU"),
    ("cgroupfs, guaranteed", &["kubepods/burstable", "kubepods/podU/1"], "kubepods", "kubepods/podU"),
    (
        "kind",
        &[
            "init.scope",
            "kubelet.slice/kubelet.service",
            "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-podU.slice/cri-containerd-1.scope",
        ],
        "kubelet.slice/kubelet-kubepods.slice",
        "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-podU.slice",
    ),
    ("kind, cgroupfs", &["kubelet/kubepods/burstable/podU/1"], "kubelet/kubepods", "kubelet/kubepods/burstable/podU"),
    (
        "k3s",
        &[
            "system.slice/k3s.service",
            "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU.slice/cri-containerd-1.scope",
        ],
        "kubepods.slice",
        "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU.slice",
    ),
    (
        "minikube in a container",
        &["docker/1/kubepods/burstable/podU/1"],
        "docker/1/kubepods",
        "docker/1/kubepods/burstable/podU",
    ),
];

fn tree(folders: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for folder in folders {
        fs::create_dir_all(root.path().join(named(folder))).unwrap();
    }
    root
}

fn named(folder: &str) -> String {
    folder.replace("podU.slice", &format!("pod{SLICE_UID}.slice")).replace("podU", &format!("pod{UID}"))
}

#[test]
fn pods_are_found_where_kubelets_put_them() {
    let uid: WorkloadUid = UID.parse().unwrap();
    for (distribution, folders, pods, pod) in TREES {
        let root = tree(folders);
        let found = choose(&[root.path().to_owned()], None).unwrap();
        assert_eq!(found, root.path().join(pods), "{distribution}");
        assert_eq!(pod_folder(&found, &uid), Some(root.path().join(named(pod))), "{distribution}");
        assert_eq!(pod_folder(&found, &"another".parse().unwrap()), None, "{distribution}");
    }
}

#[test]
fn of_several_kubelets_the_agents_own_counts() {
    let root = tree(&["one/kubepods/burstable", "two/kubepods/podU/1"]);
    let roots = [root.path().to_owned()];
    let own = root.path().join(named("two/kubepods/podU/1"));
    assert_eq!(choose(&roots, Some(&own)).unwrap(), root.path().join("two/kubepods"));
    let error = choose(&roots, None).unwrap_err().to_string();
    assert!(error.contains("one/kubepods") && error.contains("--pods-cgroup"), "{error}");
    let error = choose(&[root.path().join("gone")], None).unwrap_err().to_string();
    assert!(error.contains("cannot be read"), "{error}");
    let empty = tree(&["init.scope"]);
    let error = choose(&[empty.path().to_owned()], None).unwrap_err().to_string();
    assert!(error.contains("no kubelet runs here"), "{error}");
}

#[test]
fn processes_are_those_of_all_containers() {
    let root = tree(&["podU/pause", "podU/web"]);
    let pod = root.path().join(named("podU"));
    fs::write(pod.join("pause/cgroup.procs"), "11\n").unwrap();
    fs::write(pod.join("web/cgroup.procs"), "12\n13\n").unwrap();
    let mut found = processes(&pod, 2);
    found.sort_unstable();
    assert_eq!(found, [11, 12, 13]);
    assert_eq!(folder_of(root.path(), 13, 3), Some(pod.join("web")));
    assert_eq!(folder_of(root.path(), 14, 3), None);
}

#[test]
fn cgroup2_is_found_among_the_mounts() {
    let text = "30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n\
        31 30 0:27 /../../.. /sys/fs/cgroup/unified rw,nosuid shared:5 - cgroup2 cgroup2 rw,nsdelegate\n\
        32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        40 24 0:27 / /host/cgroup rw - cgroup2 cgroup2 rw\n";
    assert_eq!(mounts_in(text), [Path::new("/sys/fs/cgroup/unified"), Path::new("/host/cgroup")]);
}
