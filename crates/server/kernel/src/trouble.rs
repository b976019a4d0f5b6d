//! What the error of a system call says, and how to ask again.
//!
//! An error is not an answer. A container whose files cannot be opened because the server has no
//! descriptor left is as alive as before. Only an error that says *it is not there* may be taken for
//! the end of anything; after every other one the same question is asked again later.

use std::{fmt::Display, io, time::Duration};

use nix::libc;
use tokio::time::sleep;

/// What the error of a system call says of the thing that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It is not there: ENOENT of a file, ECONNREFUSED of a socket that nobody listens on, ESRCH of
    /// a process. The only error that is an answer.
    Gone,
    /// Descriptors, processes, memory or room on the disk have run out. The thing may well be there.
    Scarce,
    /// Anything else; no answer either.
    Other,
}

impl Trouble {
    /// What the error says of the thing that was asked about.
    pub fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ECONNREFUSED | libc::ESRCH) => Self::Gone,
            Some(
                libc::EMFILE
                | libc::ENFILE
                | libc::ENOMEM
                | libc::ENOBUFS
                | libc::EAGAIN
                | libc::ENOSPC
                | libc::EDQUOT
                | libc::EUSERS,
            ) => Self::Scarce,
            _ => Self::Other,
        }
    }
}

/// Turns "not there" into `None`; other errors stay errors.
pub fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if Trouble::of(&error) == Trouble::Gone => Ok(None),
        Err(error) => Err(error),
    }
}

/// The pauses between attempts, each twice as long as the one before, from 50 ms on.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

/// Up to 5 s.
impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(Self::LONGEST)
    }
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(5);

    /// Up to a longest pause.
    pub fn up_to(longest: Duration) -> Self {
        Self { next: Self::FIRST, longest }
    }

    /// Waits before the next attempt.
    pub async fn pause(&mut self) {
        let pause = self.next;
        self.next = self.longest.min(pause * 2);
        sleep(pause).await;
    }
}

/// Asks until there is an answer. `what` completes the sentence "cannot ...", for the log.
pub async fn until_answered<T, E: Display, F: Future<Output = Result<T, E>>>(
    what: impl Display,
    mut ask: impl FnMut() -> F,
) -> T {
    let mut backoff = Backoff::default();
    let mut failures = 0_u32;
    loop {
        match ask().await {
            Ok(answer) if failures == 0 => return answer,
            Ok(answer) => {
                tracing::info!(failures, "can {what} again");
                return answer;
            }
            Err(error) if failures == 0 => {
                tracing::warn!(%error, "cannot {what}; it is tried again until it succeeds");
            }
            Err(error) => tracing::debug!(%error, failures, "still cannot {what}"),
        }
        failures += 1;
        backoff.pause().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_three_errors_say_that_something_is_gone() {
        let gone: Vec<i32> = (1..134)
            .filter(|errno| Trouble::of(&io::Error::from_raw_os_error(*errno)) == Trouble::Gone)
            .collect();
        assert_eq!(gone, [libc::ENOENT, libc::ESRCH, libc::ECONNREFUSED]);
        assert_eq!(Trouble::of(&io::Error::from_raw_os_error(libc::EMFILE)), Trouble::Scarce);
        assert_eq!(Trouble::of(&io::Error::from_raw_os_error(libc::EIO)), Trouble::Other);
        assert_eq!(Trouble::of(&io::ErrorKind::InvalidData.into()), Trouble::Other);
        let missing: io::Result<()> = Err(io::Error::from_raw_os_error(libc::ENOENT));
        assert!(if_there(missing).unwrap().is_none());
        let unknown: io::Result<()> = Err(io::Error::from_raw_os_error(libc::ENFILE));
        assert!(if_there(unknown).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_asked_until_there_is_an_answer() {
        let mut left = 9;
        let begin = tokio::time::Instant::now();
        let answer = until_answered("open it", || {
            left -= 1;
            let short = left > 0;
            async move { if short { Err(io::Error::from_raw_os_error(libc::EMFILE)) } else { Ok("it") } }
        });
        assert_eq!(answer.await, "it");
        // 50, 100, 200, ... ms, and no pause is longer than 5 s.
        let pauses = 50 + 100 + 200 + 400 + 800 + 1600 + 3200 + 5000;
        assert_eq!(begin.elapsed().as_millis() / 10, pauses / 10);
    }
}
