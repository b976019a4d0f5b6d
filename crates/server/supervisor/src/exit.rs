//! How a container ends, in order: its first process exits, the rest is killed, every further
//! process's exit is published, the runtime forgets the container, its id is free, and only then the exit of
//! its first process is published. The exit of a container that is kept is published before the runtime
//! forgets it, which is when its caller deletes it.

use std::{sync::Arc, time::Duration};

use gantry_domain::{Exit, ProcessId, ProcessPhase, Retention};
use gantry_failpoints::{Point, reach};
use gantry_kernel::cgroup::Cgroup;
use gantry_shim_proto::{EXIT_FILE, ToShim};

use tokio::time::sleep;

use crate::{
    actor::{Actor, Message, Process},
    create::Identity,
    handle::DeletedProcess,
    operation::Activity,
    remains::{Over, Remaining},
    state_dir::{ContainerRecord, StateDir, StateError},
    teardown::{self, Users},
    turns::Lane,
};

/// How long the exit of a kept container waits for those of its other processes, which were killed. One that
/// waits for a device that does not answer (state D) does not end.
const EXECS_DEADLINE: Duration = Duration::from_secs(10);

impl Actor {
    /// A process has ended.
    pub(crate) async fn exited(&mut self, process: &ProcessId, exit: Exit) {
        if process.is_init() {
            return self.init_exited(exit).await;
        }
        reach(Point::ServerExecExited);
        let durable = match self.lifecycle.exec_exited(process, exit) {
            Some(event) => self.publish(event).await,
            None => true,
        };
        reach(Point::ServerExecExitJournalled);
        if self.lifecycle.process_phase(process).is_some() {
            self.keep_exit(process, exit, durable).await;
        } else {
            self.forget_exec(process, durable).await;
        }
        reach(Point::ServerExecRemoved);
        self.tell_exit(process, exit);
        self.go_on_ending(None).await;
    }

    async fn init_exited(&mut self, exit: Exit) {
        if self.is_starting() || self.is_in_last_image() {
            self.early_exit = Some(exit);
            return;
        }
        if self.is_resuming() {
            // It could only end because it was thawed, which is published first.
            self.publish_pause(false).await;
        }
        self.lifecycle.init_exited(exit);
        self.services.turns.abandon(&Lane::Execs(self.identity.key.clone()));
        self.init_ended.send_replace(true);
        reach(Point::ServerInitExited);
        self.dismiss_early(&ProcessId::init()).await;
        reach(Point::ServerInitDismissed);
        self.kill_rest();
    }

    /// Lets a shim exit early if its exit.json is on disk.
    async fn dismiss_early(&mut self, process: &ProcessId) {
        let dir = self.identity.dir.process(process);
        // If the file cannot be read, the shim waits for the journal.
        if matches!(dir.run(|dir, wait| dir.text(EXIT_FILE, wait)).await, Ok(Some(_)))
            && let Some(known) = self.processes.get(process)
        {
            dismiss(known);
        }
    }

    async fn forget_exec(&mut self, process: &ProcessId, durable: bool) {
        let known = self.processes.remove(process);
        self.ended.insert(process);
        if !durable {
            // Its files stay until the event is in the journal.
            return;
        }
        self.identity.dir.process(process).discard().await;
        if let Some(known) = known {
            dismiss(&known);
        }
    }

    /// Keeps a published exit for whoever asks, also after a restart.
    async fn keep_exit(&mut self, process: &ProcessId, exit: Exit, durable: bool) {
        let dir = self.identity.dir.process(process);
        // Its files stay until the event is in the journal.
        if durable && let Err(error) = dir.run(move |dir, wait| dir.note_exit(exit, wait)).await {
            tracing::error!(
                container = %self.identity.key, %process, %error,
                "cannot record an exit; the journal has it for as long as it keeps the event",
            );
        }
        if let Some(known) = self.processes.get_mut(process) {
            if durable {
                dismiss(known);
            }
            (known.pidfd, known.link) = (None, None);
        }
    }

    /// How a process has ended, if it has.
    pub(crate) fn exit_of(&self, process: &ProcessId) -> Option<Exit> {
        match self.lifecycle.process_phase(process) {
            Some(ProcessPhase::Stopped(exit)) => Some(exit),
            _ => None,
        }
    }

    /// The first process is gone: nothing in the container is to live on.
    pub(crate) fn kill_rest(&mut self) {
        self.activity = Activity::Killing;
        let services = Arc::clone(&self.services);
        let identity = self.identity.clone();
        let cgroup = self.own_cgroup();
        let oom = self.oom.take();
        self.work(teardown::kill_rest(services, identity, cgroup, oom));
    }

    pub(crate) async fn rest_killed(&mut self, users: Option<Users>) {
        self.activity = Activity::Killed;
        self.go_on_ending(users).await;
        if matches!(self.activity, Activity::Killed) && self.is_kept() {
            self.work_outside_of_trace(async {
                sleep(EXECS_DEADLINE).await;
                Message::ExecsOverdue
            });
        }
    }

    /// The container's exit is published although further processes have not ended yet.
    pub(crate) async fn give_up_execs(&mut self) {
        if matches!(self.activity, Activity::Killed) {
            tracing::warn!(container = %self.identity.key, "a process does not end, though it was killed");
            self.lifecycle.give_up_execs();
            self.go_on_ending(None).await;
        }
    }

    /// Whether the container stays until its caller deletes it.
    pub(crate) fn is_kept(&self) -> bool {
        self.lifecycle.retention() == Retention::UntilDeleted && self.lifecycle.is_reported()
    }

    /// Once every exec's exit is published, publishes that of the first process, or removes the container. `users` of
    /// its cgroup are current only if nothing is waited for; otherwise they are looked up again.
    pub(crate) async fn go_on_ending(&mut self, users: Option<Users>) {
        if !matches!(self.activity, Activity::Killed) || !self.lifecycle.may_be_removed() {
            return;
        }
        if !self.is_kept() {
            return self.remove(users);
        }
        if let Some(event) = self.lifecycle.publish_exit() {
            let durable = self.publish(event).await;
            reach(Point::ServerExitJournalled);
            let init = ProcessId::init();
            if let Some(exit) = self.exit_of(&init) {
                self.keep_exit(&init, exit, durable).await;
                self.tell_exit(&init, exit);
            }
        }
        self.activity = Activity::Ended;
        if !self.deleters.is_empty() {
            self.remove(None);
        }
    }

    /// Removes the container from the runtime and the kernel.
    pub(crate) fn remove(&mut self, users: Option<Users>) {
        self.activity = Activity::Removing;
        let services = Arc::clone(&self.services);
        let identity = self.identity.clone();
        let cgroup = self.own_cgroup();
        self.work(teardown::remove(services, identity, cgroup, users));
    }

    /// Frees the id and reports the last event, then removes the state directory, last of all.
    pub(crate) async fn removed(&mut self, result: Result<(), Remaining>) {
        let key = self.identity.key.clone();
        let result = result.or_else(|error| if error.is_anothers() { Ok(()) } else { Err(error) });
        if let Err(error) = &result {
            tracing::warn!(container = %key, %error, "it has ended, but not all of it could be removed yet");
        }
        let (dir, generation) = (self.identity.dir.clone(), self.identity.generation);
        let aside = move |state: &StateDir, wait: &_| state.set_aside(&dir, generation, wait);
        let aside = self.services.state.run(aside).await;
        let is_aside = aside.is_ok();
        let dir = aside.unwrap_or_else(|error| {
            tracing::error!(container = %key, %error, "cannot set its state aside");
            self.identity.dir.clone()
        });
        reach(Point::ServerSetAside);
        // Together: whoever sees the last event finds the id free, and whoever finds no container finds
        // the event.
        let services = Arc::clone(&self.services);
        let journalled = match self.lifecycle.removed() {
            Some(event) if is_aside => {
                let free = move |show: &dyn Fn()| services.registry.release_after(&key, show);
                self.publish_within(event, free).await
            }
            last_event => {
                let journalled = match last_event {
                    Some(event) => self.publish(event).await,
                    None => true,
                };
                if journalled && !is_aside {
                    // First: the next container of this id has its state in the same place.
                    dir.discard().await;
                }
                services.registry.release(&key);
                journalled
            }
        };
        reach(Point::ServerExitJournalled);
        match self.record.take() {
            Some(record) if is_aside => {
                let identity = Identity { dir, ..self.identity.clone() };
                let deleted = result.is_ok();
                let over = Over { identity, record, ended: true, journalled, deleted };
                self.services.remove_remains(over).await;
            }
            None if is_aside && journalled => dir.discard().await,
            // Its files stay until the event is in the journal.
            _ => {}
        }
        reach(Point::ServerStateRemoved);
        for known in self.processes.values() {
            dismiss(known);
        }
        self.answer_deleters();
        self.activity = Activity::Gone;
    }

    fn answer_deleters(&mut self) {
        let init = ProcessId::init();
        let exit = self.exit_of(&init);
        if let Some(exit) = exit {
            self.tell_exit(&init, exit);
        }
        self.services.attachments.gone(&self.identity.key, self.identity.generation);
        let pid = self.processes.get(&init).map_or(0, |known| known.pid);
        // For the others, and for what waits in `pending`, the container is gone: dropped replies say so.
        if let Some(first) = self.deleters.drain(..).find(|reply| !reply.is_closed()) {
            let _ = first.send(Ok(DeletedProcess { pid, exit }));
        }
    }

    fn own_cgroup(&self) -> Option<Cgroup> {
        self.record.as_ref()?.cgroup.clone()
    }

    /// Changes the container's record, also on disk.
    pub(crate) async fn note(
        &mut self,
        change: impl FnOnce(&mut ContainerRecord),
    ) -> Result<(), StateError> {
        let Some(record) = &mut self.record else { return Ok(()) };
        change(record);
        let record = record.clone();
        self.identity.dir.run(move |dir, wait| dir.write(&record, wait)).await
    }

    /// The container ran out of memory; `kills` of its processes were killed for that so far.
    pub(crate) async fn out_of_memory(&mut self, kills: u64) {
        let Some(event) = self.lifecycle.out_of_memory() else { return };
        self.publish(event).await;
        reach(Point::ServerOomJournalled);
        if let Err(error) = self.note(|record| record.oom_kills = kills).await {
            tracing::error!(container = %self.identity.key, %error, "cannot record an OOM kill; a restarted gantryd reports it again");
        }
        reach(Point::ServerOomNoted);
    }
}

/// Allows a shim to exit.
fn dismiss(known: &Process) {
    if let Some(link) = &known.link {
        // It may have exited already.
        let _ = link.send(&ToShim::Ack);
    }
}
