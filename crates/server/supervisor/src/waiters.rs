//! Those who wait for the end of a process.

use gantry_domain::{Exit, ProcessId};

use crate::{
    SupervisorError,
    handle::{MAILBOX, Reply},
};

/// Those who wait for the end of a container's processes.
#[derive(Default)]
pub(crate) struct Waiters(Vec<(ProcessId, Reply<Exit>)>);

impl Waiters {
    /// Refuses one more than may wait. Callers that are gone do not count.
    pub(crate) fn add(&mut self, process: ProcessId, reply: Reply<Exit>) {
        if self.0.len() >= MAILBOX {
            self.0.retain(|(_, reply)| !reply.is_closed());
        }
        if self.0.len() < MAILBOX {
            self.0.push((process, reply));
        } else {
            let _ = reply.send(Err(SupervisorError::Overloaded));
        }
    }

    /// The process has ended.
    pub(crate) fn answer(&mut self, process: &ProcessId, exit: Exit) {
        for (_, reply) in self.0.extract_if(.., |(of, _)| of == process) {
            let _ = reply.send(Ok(exit));
        }
    }

    /// The process was deleted before it was started.
    pub(crate) fn refuse(&mut self, process: &ProcessId) {
        for (process, reply) in self.0.extract_if(.., |(of, _)| of == process) {
            let _ = reply.send(Err(SupervisorError::ProcessNotFound(process)));
        }
    }
}

#[cfg(test)]
mod tests {
    use gantry_domain::{ExitStatus, Timestamp};
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn each_gets_the_exit_of_its_process() {
        let exec = ProcessId::parse("e").unwrap();
        let exit = Exit { status: ExitStatus::Code(3), at: Timestamp(7) };
        let mut waiters = Waiters::default();
        let ask = |waiters: &mut Waiters, process: &ProcessId| {
            let (reply, answer) = oneshot::channel();
            waiters.add(process.clone(), reply);
            answer
        };
        let mut first = ask(&mut waiters, &ProcessId::init());
        let mut second = ask(&mut waiters, &exec);
        let mut third = ask(&mut waiters, &exec);
        waiters.answer(&exec, exit);
        assert_eq!(second.try_recv().unwrap().unwrap(), exit);
        assert_eq!(third.try_recv().unwrap().unwrap(), exit);
        assert!(first.try_recv().is_err(), "it still waits");
        waiters.refuse(&ProcessId::init());
        assert!(first.try_recv().unwrap().is_err());
    }

    #[test]
    fn callers_that_are_gone_make_room() {
        let mut waiters = Waiters::default();
        let mut ask = || {
            let (reply, answer) = oneshot::channel();
            waiters.add(ProcessId::init(), reply);
            answer
        };
        let mut waiting: Vec<_> = (0..MAILBOX).map(|_| ask()).collect();
        assert!(matches!(ask().try_recv(), Ok(Err(SupervisorError::Overloaded))));
        waiting.pop();
        assert!(ask().try_recv().is_err(), "it waits");
    }
}
