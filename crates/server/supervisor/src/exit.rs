//! How a container ends, in order: its first process exits, the rest is killed, every further
//! process's exit is reported, the runtime forgets it, its id is free, and only then the exit of
//! its first process is reported.

use std::sync::Arc;

use gantry_domain::{Exit, ProcessId};
use gantry_failpoints::{Point, reach};
use gantry_kernel::cgroup::Cgroup;
use gantry_shim_proto::{EXIT_FILE, ToShim};

use crate::{
    actor::{Actor, Process},
    create::Identity,
    operation::Activity,
    remains::{Over, Remaining},
    teardown::{self, Users},
    turns::Lane,
};

impl Actor {
    /// A process has ended.
    pub(crate) fn exited(&mut self, process: &ProcessId, exit: Exit) {
        if process.is_init() {
            if self.is_resuming() {
                // It could only end because it goes on, which is told first.
                self.tell_pause(false);
            }
            self.lifecycle.init_exited(exit);
            self.services.turns.abandon(&Lane::Execs(self.identity.key.clone()));
            self.init_ended.send_replace(true);
            reach(Point::ServerInitExited);
            self.dismiss_early(process);
            reach(Point::ServerInitDismissed);
            self.kill_rest();
            return;
        }
        reach(Point::ServerExecExited);
        let durable = match self.lifecycle.exec_exited(process, exit) {
            Some(event) => self.publish(event),
            None => true,
        };
        reach(Point::ServerExecExitJournalled);
        self.forget_exec(process, durable);
        reach(Point::ServerExecRemoved);
        self.remove_if_over(None);
    }

    /// Lets a shim exit early if its exit.json is on disk.
    fn dismiss_early(&self, process: &ProcessId) {
        let dir = self.identity.dir.process(process);
        // One that cannot be read waits for the journal.
        if matches!(dir.text(EXIT_FILE), Ok(Some(_)))
            && let Some(known) = self.processes.get(process)
        {
            dismiss(known);
        }
    }

    fn forget_exec(&mut self, process: &ProcessId, durable: bool) {
        let known = self.processes.remove(process);
        self.ended.insert(process);
        if !durable {
            // What the disk says of it stays until the journal does.
            return;
        }
        self.identity.dir.process(process).discard();
        if let Some(known) = known {
            dismiss(&known);
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

    pub(crate) fn rest_killed(&mut self, users: Option<Users>) {
        self.activity = Activity::Killed;
        self.remove_if_over(users);
    }

    /// Removes the container once every exec's exit is reported. `users` of its cgroup are current only if
    /// nothing is waited for; otherwise they are looked up again.
    pub(crate) fn remove_if_over(&mut self, users: Option<Users>) {
        if !matches!(self.activity, Activity::Killed) || !self.lifecycle.may_be_removed() {
            return;
        }
        self.activity = Activity::Removing;
        let services = Arc::clone(&self.services);
        let identity = self.identity.clone();
        let cgroup = self.own_cgroup();
        self.work(teardown::remove(services, identity, cgroup, users));
    }

    /// Frees the id and reports the exit, then removes the state directory, last of all.
    pub(crate) fn removed(&mut self, result: Result<(), Remaining>) {
        let key = &self.identity.key;
        let result = result.or_else(|error| if error.is_anothers() { Ok(()) } else { Err(error) });
        if let Err(error) = &result {
            tracing::warn!(container = %key, %error, "it is over, but not gone yet");
        }
        let aside = self.services.state.set_aside(&self.identity.dir, self.identity.generation);
        let is_aside = aside.is_ok();
        let dir = aside.unwrap_or_else(|error| {
            tracing::error!(container = %key, %error, "cannot set its state aside");
            self.identity.dir.clone()
        });
        reach(Point::ServerSetAside);
        // Together: whoever sees the exit finds the id free, and whoever finds no container finds
        // its exit.
        let registry = &self.services.registry;
        let told = match self.lifecycle.removed() {
            Some(event) => self.publish_within(event, |show| registry.release_after(key, show)),
            None => {
                registry.release(key);
                true
            }
        };
        reach(Point::ServerExitJournalled);
        match self.record.take() {
            Some(record) if is_aside => {
                let identity = Identity { dir, ..self.identity.clone() };
                self.services.remove_remains(Over {
                    identity,
                    record,
                    ended: true,
                    told,
                    deleted: result.is_ok(),
                });
            }
            _ if told => dir.discard(),
            // What the disk says of it stays until the journal does.
            _ => {}
        }
        reach(Point::ServerStateRemoved);
        for known in self.processes.values() {
            dismiss(known);
        }
        self.activity = Activity::Gone;
    }

    fn own_cgroup(&self) -> Option<Cgroup> {
        self.record.as_ref()?.cgroup.clone()
    }

    /// The container ran out of memory; `kills` of its processes were killed for that so far.
    pub(crate) fn out_of_memory(&mut self, kills: u64) {
        let Some(event) = self.lifecycle.out_of_memory() else { return };
        self.publish(event);
        reach(Point::ServerOomJournalled);
        if let Some(record) = &mut self.record {
            record.oom_kills = kills;
            if let Err(error) = self.identity.dir.write(record) {
                tracing::error!(container = %self.identity.key, %error, "cannot record an OOM kill; a restarted gantryd reports it again");
            }
        }
        reach(Point::ServerOomNoted);
    }
}

/// Lets a shim leave.
fn dismiss(known: &Process) {
    if let Some(link) = &known.link {
        // It may have left already.
        let _ = link.send(&ToShim::Ack);
    }
}
