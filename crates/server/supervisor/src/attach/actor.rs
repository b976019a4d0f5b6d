//! What a container's task has to do with the streams that the server holds.

use gantry_domain::{Exit, ProcessId, ProcessSpec};

use super::Holder;
use crate::{actor::Actor, handle::ContainerHandle, last_known::LastKnown};

impl Actor {
    /// Begins to read the output of a process, if the server holds that. An earlier server may have read some.
    pub(crate) async fn hold(&self, spec: &ProcessSpec, earlier: bool) {
        let services = &self.services;
        let container = ContainerHandle {
            key: self.identity.key.clone(),
            mailbox: self.mailbox.clone(),
            half_made: false,
            idempotency: None,
            // Not this one's: what is held is kept for longer than the container.
            last_known: LastKnown::default(),
        };
        let process = spec.id.clone();
        let of = Holder { container, generation: self.identity.generation, process };
        let dir = self.identity.dir.process(&spec.id);
        services.attachments.hold(of, &dir, spec, services.settings.attach_buffer, earlier).await;
    }

    /// The exit of a process was published: tells all who wait for that.
    pub(crate) fn tell_exit(&mut self, process: &ProcessId, exit: Exit) {
        let (key, generation) = (&self.identity.key, self.identity.generation);
        self.services.attachments.ended(key, generation, process, exit);
        self.waiters.answer(process, exit);
    }
}
