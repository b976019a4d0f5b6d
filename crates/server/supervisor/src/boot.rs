//! Recognizes a reboot, after which no process, mount or cgroup of earlier containers is left.

use gantry_disk::MayWait;
use gantry_kernel::{BOOT_ID, boot_id};

use crate::{Services, SupervisorError, state_dir::StateDir};

impl Services {
    /// Discards the tasks of containerd's API that an earlier boot has left, if the state directory outlives a
    /// boot: their clients know that tasks do not. Containers of `types.API` are kept until their exits are published.
    ///
    /// State of a version that did not note the boot counts as of this one.
    pub(crate) async fn discard_earlier_boot(&self) {
        let now = match boot_id() {
            Ok(now) => now,
            Err(error) => {
                tracing::warn!(%error, "cannot read {BOOT_ID}; tasks of an earlier boot are reattached to one by one");
                return;
            }
        };
        match self.state.run(StateDir::boot).await {
            Ok(Some(earlier)) if earlier == now => return,
            Ok(Some(_)) => {
                if !self.discard_tasks().await {
                    return;
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "it is not known which boot the state is of; tasks are reattached to one by one");
            }
        }
        let note = move |state: &StateDir, wait: &MayWait| state.note_boot(&now, wait);
        if let Err(error) = self.state.run(note).await {
            tracing::warn!(%error, "the boot cannot be noted; the next server may discard tasks that are gone");
        }
    }

    /// Discards all tasks. Whether nothing of them is left.
    async fn discard_tasks(&self) -> bool {
        // After a boot nothing is mounted there. If it were, the mounted files would be removed with the bundles.
        let unmounted = self.unmount_all_in(&self.state.bundles()).await;
        let unmounted = unmounted.map_err(SupervisorError::from);
        if let Err(error) = unmounted.and_then(|unmounted| Ok(unmounted?)) {
            tracing::error!(%error, "tasks of an earlier boot are reattached to one by one");
            return false;
        }
        self.events.mark_named_obsolete().await;
        match self.state.run(StateDir::discard_tasks).await {
            Ok(tasks) => {
                tracing::info!(tasks, "the machine was booted: tasks of before are discarded");
                true
            }
            Err(error) => {
                tracing::error!(%error, "tasks of an earlier boot cannot all be discarded; the next start tries again");
                false
            }
        }
    }
}
