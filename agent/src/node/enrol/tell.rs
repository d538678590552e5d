//! What the kernel side tells people: counters, rare happenings, attached programs.

use super::Enroller;
use crate::admin::{HookStatus, PodCounters};
use crate::bpf::{Attachment, ForeignProgram, NetnsCookie};
use crate::limits;

impl Enroller {
    /// What the hooks counted for a pod; zeroes where nothing is known.
    #[must_use]
    pub fn counters(&self, netns: Option<NetnsCookie>) -> PodCounters {
        let counted = netns.and_then(|netns| self.datapath.counters(netns).ok()).unwrap_or_default();
        let mut by_reason = [0; weft_abi::reason::REASONS];
        for (reason, count) in counted {
            if let Some(place) = usize::try_from(reason.0).ok().and_then(|index| by_reason.get_mut(index)) {
                *place = count;
            }
        }
        PodCounters::new(by_reason)
    }

    /// Logs the rare happenings that the hooks told since the last time; counters have the common ones.
    pub fn log_events(&mut self) {
        let Some(events) = &mut self.events else { return };
        for _ in 0..limits::EVENTS_PER_LOOK {
            let Some(event) = events.next_event() else { return };
            let pod = self.enrolled.values().find(|enrolled| enrolled.pod.netns.cookie() == event.netns);
            let workload = pod.map(|enrolled| enrolled.pod.uid.as_str());
            let (source, destination) = (event.source, event.destination);
            tracing::info!(workload, reason = event.reason.name(), %source, %destination, suppressed = event.suppressed, "kernel");
        }
    }

    /// Programs of others at the hooks that Weft uses.
    #[must_use]
    pub fn foreign(&self) -> Vec<ForeignProgram> {
        self.datapath.foreign_programs().unwrap_or_else(|error| {
            tracing::debug!(%error, "other programs at the hooks cannot be listed");
            Vec::new()
        })
    }

    /// The programs that are attached, as the kernel says.
    #[must_use]
    pub fn hooks(&self) -> Vec<HookStatus> {
        let attachments = self.datapath.attachments().unwrap_or_else(|error| {
            tracing::warn!(%error, "the attached programs cannot be listed");
            Vec::new()
        });
        let hook = |attachment: Attachment| {
            let (name, target) = attachment.name.split_once('-').unwrap_or((&attachment.name, ""));
            let detail = (!attachment.attached).then(|| "its cgroup or namespace is gone".to_owned());
            HookStatus {
                name: name.to_owned(),
                target: target.to_owned(),
                pinned: true,
                attached: attachment.attached,
                detail,
            }
        };
        let missing = self.probing.problem().map(|why| HookStatus {
            name: "probe_ops".to_owned(),
            target: "kubelet".to_owned(),
            pinned: false,
            attached: false,
            detail: Some(format!("probes are known by the node's address alone: {why}")),
        });
        attachments.into_iter().map(hook).chain(missing).collect()
    }
}
