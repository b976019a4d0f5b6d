//! Lines that wait to be written.

use std::{
    io, mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Bytes of lines that may wait. What does not fit is dropped, and counted.
pub(super) const CAPACITY: usize = 1 << 20;

/// Between those who log and the thread that writes.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines, each with its end.
    lines: Vec<u8>,
    dropped: u64,
    /// There is a thread that takes the lines.
    has_writer: bool,
    /// The thread has lines that it has not written yet.
    is_writing: bool,
}

impl Queue {
    /// Adds a line, or drops it where there is no room. Never waits for the thread that writes.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.lines.len() + line.len() > CAPACITY {
            state.dropped += 1;
            return;
        }
        let was_empty = state.lines.is_empty();
        state.lines.extend_from_slice(line);
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Marks the lines of the last call as written, waits for more, and puts them into
    /// `lines`. Returns how many were dropped after them.
    pub(super) fn take(&self, lines: &mut Vec<u8>) -> u64 {
        let mut state = self.lock();
        state.is_writing = false;
        self.written.notify_all();
        let waiting = self.filled.wait_while(state, |state| state.lines.is_empty());
        state = waiting.unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        lines.clear();
        mem::swap(lines, &mut state.lines);
        mem::take(&mut state.dropped)
    }

    /// As [`Self::take`], without waiting: `None` if there is nothing.
    pub(super) fn take_now(&self) -> Option<(Vec<u8>, u64)> {
        let mut state = self.lock();
        let lines = mem::take(&mut state.lines);
        let dropped = mem::take(&mut state.dropped);
        (!lines.is_empty()).then_some((lines, dropped))
    }

    /// Waits until there is nothing that is not written, no longer than `deadline`.
    pub(super) fn wait_until_written(&self, deadline: Duration) {
        let is_busy = |state: &mut State| state.is_writing || !state.lines.is_empty();
        // Whether in time or not makes no difference.
        let _ = self.written.wait_timeout_while(self.lock(), deadline, is_busy);
    }

    pub(super) fn has_writer(&self) -> bool {
        self.lock().has_writer
    }

    pub(super) fn set_has_writer(&self) {
        self.lock().has_writer = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // It is whole after any panic: lines are whole, and nothing hangs on the counts.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each write is a line, as tracing-subscriber makes them.
impl io::Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let queue = Queue::default();
        let line = [vec![b'x'; CAPACITY / 4], vec![b'\n']].concat();
        (0..10).for_each(|_| queue.push(&line));
        let mut lines = Vec::new();
        assert_eq!(queue.take(&mut lines), 7);
        assert_eq!(lines.len(), 3 * line.len());
        queue.push(b"there is room again\n");
        assert_eq!(queue.take(&mut lines), 0);
        assert_eq!(lines, b"there is room again\n");
    }

    #[test]
    fn nobody_waits_for_ever() {
        let queue = Queue::default();
        queue.wait_until_written(Duration::from_secs(1000));
        queue.push(b"never written\n");
        queue.wait_until_written(Duration::from_millis(1));
    }
}
