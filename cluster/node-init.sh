#!/bin/bash
# The first process of a node: makes the node's own view of the machine, then runs containerd, the kubelet and kube-proxy.
# Started in network, mount, PID, UTS, IPC and cgroup namespaces of its own: everything here ends with this process.
# Usage: node-init NAME ADDRESS FOLDER PROGRAMS; the folder holds the configuration files, and later the file "start".
set -eu
name=$1 address=$2 folder=$3 programs=$4
export PATH=$programs:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

mount --make-rprivate /
# Whoever holds a network keeps it from ending; this process has entered the one that is the node's.
umount --all --types nsfs
echo "$name" > /proc/sys/kernel/hostname

# Kernel interfaces, as this network and cgroup namespace shows them. Some are not in every kernel.
umount --recursive --lazy /sys
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
mount -t debugfs debugfs /sys/kernel/debug || true
mount -t tracefs tracefs /sys/kernel/tracing || true
mount -t securityfs securityfs /sys/kernel/security || true
# One line for each mount: where it goes below /sys/fs/cgroup, its type, its options.
while read -r place type options; do
    [ -d "/sys/fs/cgroup/$place" ] || mkdir "/sys/fs/cgroup/$place"
    mount -t "$type" -o "$options" cgroup "/sys/fs/cgroup/$place"
done < "$folder/cgroups"
if [ -e /sys/fs/cgroup/cgroup.procs ]; then
    # A group that gives controllers to others may not hold processes itself, and this one is the root of the node.
    mkdir /sys/fs/cgroup/init
    for process in $(cat /sys/fs/cgroup/cgroup.procs); do
        # Zero stands for a process outside; written, it would mean this one.
        [ "$process" = 0 ] || echo "$process" > /sys/fs/cgroup/init/cgroup.procs || true
    done
fi

# Files: what is written to the machine's folders is the node's own, and stays when it is started again, except in /run.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock /run/weft-node/tmp
export TMPDIR=/run/weft-node/tmp
for place in /etc /opt /var/lib /var/log; do
    layer=$folder/layers$place
    mkdir -p "$layer/upper" "$layer/work"
    mount -t overlay -o "lowerdir=$place,upperdir=$layer/upper,workdir=$layer/work" overlay "$place"
done
# What is large, or what another overlay is laid upon, is in no layer.
while read -r source place; do
    mkdir -p "$folder/$source" "$place"
    mount --bind "$folder/$source" "$place"
done <<MOUNTS
kubelet /var/lib/kubelet
containerd /var/lib/containerd
pods /var/log/pods
MOUNTS
mkdir -p /var/log/containers /var/lib/cni /opt/cni/bin /etc/cni/net.d
cp "$programs/cni/"* /opt/cni/bin/
rm -rf /etc/cni/net.d/*
cp "$folder/10-pods.conflist" /etc/cni/net.d/
: > /run/weft-node/resolv.conf
mount --make-rshared /

# Every start of a machine has a name of its own.
mount --bind "$folder/boot" /proc/sys/kernel/random/boot_id
# The kubelet writes these for the whole machine. It finds what it wants in files of its own, and the kernel keeps its values.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=/run/weft-node/$(basename "${setting%=*}")
    echo "${setting#*=}" > "$file"
    mount --bind "$file" "/proc/sys/${setting%=*}"
done
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet
# Between two pods of one bridge too, answers must pass the rules that turned the Service's address into the pod's.
[ ! -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables

# As on a real node, a program that ends is started again.
keep() {
    while :; do
        "$@" >> "$folder/$1.log" 2>&1 || true
        sleep 1
    done
}

keep containerd --config "$folder/containerd.toml" &
until ctr version > /dev/null 2>&1; do sleep 0.05; done
for image in "$programs"/images/*.tar; do
    ctr --namespace k8s.io images import "$image" > "$folder/import.log" 2>&1
done
touch "$folder/prepared"

# The API server refuses who comes too early, and is not asked again for seconds.
until [ -e "$folder/start" ]; do sleep 0.05; done
keep kubelet --config="$folder/kubelet.yaml" --kubeconfig="$folder/kubeconfig" --hostname-override="$name" \
    --node-ip="$address" &
keep kube-proxy --config="$folder/proxy.yaml" &
# Never ends by itself, and collects the node's orphans meanwhile.
wait
