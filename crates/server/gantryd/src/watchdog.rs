//! Notifies the service manager that the server makes progress (`WatchdogSec=` of systemd.service(5)):
//! a server that does not is killed and restarted, and its containers notice nothing.

use std::{io, time::Duration};

use gantry_supervisor::Supervisor;
use sd_notify::NotifyState;
use tokio::{runtime::Handle, time::interval};

/// How many notifications are sent in each interval of the service manager.
const BEATS: u32 = 3;

/// Sends notifications for as long as the server lives, if the service manager expects them: the environment has
/// the longest time that may pass in between, see sd_watchdog_enabled(3). Before each one the lock is taken that
/// every call needs.
pub(crate) async fn watch(supervisors: Handle, supervisor: Supervisor) {
    let Some(longest) = sd_notify::watchdog_enabled() else { return };
    let beat = move || {
        supervisor.take_pulse();
        sd_notify::notify(&[NotifyState::Watchdog])
    };
    beats(longest / BEATS, &supervisors, beat).await;
}

/// The timer runs on this runtime, which drives connections, and the notification is sent on a
/// thread of `supervisors`: none is sent when either of them is stuck. Sending may wait for the service
/// manager, which must not hold up connections.
async fn beats(
    every: Duration,
    supervisors: &Handle,
    beat: impl Fn() -> io::Result<()> + Clone + Send + 'static,
) {
    let mut due = interval(every);
    loop {
        due.tick().await;
        let beat = beat.clone();
        match supervisors.spawn(async move { beat() }).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot notify the service manager of progress");
            }
            // The runtime is shutting down.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use tokio::{runtime::Builder, time::sleep};

    use super::*;

    #[tokio::test]
    async fn there_is_no_beat_while_handlers_are_stuck() {
        let supervisors = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (stuck, is_stuck) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        supervisors.spawn(async move {
            stuck.send(()).unwrap();
            released.recv().unwrap();
        });
        is_stuck.recv().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let beat = {
            let count = Arc::clone(&count);
            move || {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
        };
        let handle = supervisors.handle().clone();
        let beating =
            tokio::spawn(async move { beats(Duration::from_millis(5), &handle, beat).await });
        sleep(Duration::from_millis(100)).await;
        assert_eq!(count.load(Ordering::SeqCst), 0);
        release.send(()).unwrap();
        while count.load(Ordering::SeqCst) < 2 {
            sleep(Duration::from_millis(1)).await;
        }
        beating.abort();
        supervisors.shutdown_background();
    }
}
