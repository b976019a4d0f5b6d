//! Access to the server's own files, which can be on a disk that is slow, or frozen for a backup.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

use tokio::sync::oneshot;

use crate::lane::{Lane, MeasuredThreads, Refused};

/// Threads for the server's own files: a few, however many wait for them. Clones are the same.
///
/// Unlike with [`crate::Disks`] there is no deadline, as nobody could go on without knowing whether a file was
/// written, and for [`OwnFiles::run`] no bound on how many wait: there are no more than requests and containers at
/// work. The threads end when the last clone is dropped, after the work that waits.
#[derive(Clone)]
pub struct OwnFiles(Arc<Owner>);

struct Owner(Lane);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The proof that this thread may wait for a disk: only [`OwnFiles`] gives it. A function that takes it
/// cannot be called where other work would wait with it.
#[derive(Debug)]
pub struct MayWait(());

impl fmt::Debug for OwnFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnFiles").finish_non_exhaustive()
    }
}

impl OwnFiles {
    /// # Errors
    /// If not even one thread can be made.
    pub fn new() -> io::Result<Self> {
        Lane::with_a_thread().map(|lane| Self(Arc::new(Owner(lane))))
    }

    /// Runs work on a thread that may wait for a disk. It is done also if this future is dropped.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&MayWait) -> T + Send + 'static,
    ) -> T {
        let (done, answer) = oneshot::channel();
        self.0.0.push_duty(move || {
            // Whoever wanted it may have gone meanwhile.
            let _ = done.send(catch_unwind(AssertUnwindSafe(|| work(&MayWait(())))));
        });
        match answer.await {
            Ok(Ok(answer)) => answer,
            // As if the work had run here.
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => unreachable!("all work is done"),
        }
    }

    /// How many of the threads are at work, and what waits for them.
    pub fn measure(&self) -> MeasuredThreads {
        self.0.0.measure()
    }

    /// Runs work on a thread that may wait, unless this future is dropped before a thread has come to it.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] if too much waits already.
    pub async fn run_if_wanted<T: Send + 'static>(
        &self,
        work: impl FnOnce(&MayWait) -> T + Send + 'static,
    ) -> io::Result<T> {
        let (done, answer) = oneshot::channel();
        let work = move || catch_unwind(AssertUnwindSafe(|| work(&MayWait(()))));
        self.0.0.push(done, work).map_err(|refused| match refused {
            Refused::NoThread(error) => error,
            _ => io::Error::new(io::ErrorKind::ResourceBusy, "too many calls wait for a thread"),
        })?;
        match answer.await {
            Ok(Ok(answer)) => Ok(answer),
            // As if the work had run here.
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => unreachable!("work is done that is waited for"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        task::Poll,
    };

    use super::*;
    use crate::lane::MAX_THREADS;

    #[tokio::test]
    async fn everything_is_done_however_much_there_is_and_whoever_has_gone() {
        const MANY: usize = 3000;
        let files = OwnFiles::new().unwrap();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let (done, counted) = mpsc::channel();
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = |_| {
            let (released, done, files) = (Arc::clone(&released), done.clone(), files.clone());
            let asked = Arc::clone(&asked);
            tokio::spawn(async move {
                asked.fetch_add(1, Ordering::Relaxed);
                let work = move |_: &MayWait| {
                    released.lock().unwrap().recv().unwrap();
                    done.send(()).unwrap();
                };
                files.run(work).await;
            })
        };
        let waiting: Vec<_> = (0..MANY).map(ask).collect();
        // Runs while all of the calls wait.
        while asked.load(Ordering::Relaxed) < MANY {
            tokio::task::yield_now().await;
        }
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
        for waiting in waiting {
            assert!(waiting.await.unwrap_err().is_cancelled());
        }
        (0..MANY).for_each(|_| release.send(()).unwrap());
        (0..MANY).for_each(|_| counted.recv().unwrap());
        assert_eq!(files.run(|_| 7).await, 7);
    }

    #[tokio::test]
    async fn the_threads_end_with_the_last_clone() {
        let files = OwnFiles::new().unwrap();
        let lane = files.0.0.weak();
        let clone = files.clone();
        drop(files);
        assert_eq!(clone.run(|_| 7).await, 7);
        let (done, counted) = mpsc::channel();
        let work = clone.run(move |_| done.send(()).unwrap());
        // Begun, and given up.
        drop(tokio::time::timeout(std::time::Duration::ZERO, work).await);
        drop(clone);
        counted.recv().unwrap();
        // Each thread has a reference.
        while lane.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_done_and_what_waits_is_bounded() {
        let files = OwnFiles::new().unwrap();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let begun = Arc::new(AtomicUsize::new(0));
        let mut waiting = Vec::new();
        let refused = loop {
            let (released, begun) = (Arc::clone(&released), Arc::clone(&begun));
            let work = move |_: &MayWait| {
                begun.fetch_add(1, Ordering::Relaxed);
                released.lock().unwrap().recv().unwrap_err();
            };
            let mut call = Box::pin(files.run_if_wanted(work));
            match poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await {
                Poll::Ready(answer) => break answer.unwrap_err(),
                Poll::Pending => waiting.push(call),
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
        assert!(waiting.len() > MAX_THREADS);
        drop(waiting);
        drop(release);
        // Comes after all that waited.
        assert_eq!(files.run_if_wanted(|_| 7).await.unwrap(), 7);
        assert!(begun.load(Ordering::Relaxed) <= MAX_THREADS);
    }

    #[tokio::test]
    async fn a_panic_is_its_callers_alone() {
        let files = OwnFiles::new().unwrap();
        let other = files.clone();
        let panicked = tokio::spawn(async move { other.run(|_| panic!("on purpose")).await });
        assert!(panicked.await.unwrap_err().is_panic());
        assert_eq!(files.run(|_| 7).await, 7);
    }
}
