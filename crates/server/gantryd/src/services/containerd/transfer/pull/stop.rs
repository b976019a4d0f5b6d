//! One part has failed: others need not come any more.

use tokio::sync::watch;
use tonic::Status;

/// Tells whoever fetches parts of the same image.
pub(super) struct Stop(watch::Sender<bool>);

impl Default for Stop {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Stop {
    pub(super) fn now(&self) {
        self.0.send_replace(true);
    }

    /// An error if it is to stop meanwhile; `doing` is dropped then.
    pub(super) async fn unless<T>(
        &self,
        doing: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let mut changes = self.0.subscribe();
        tokio::select! {
            // What was stopped begins nothing.
            biased;
            _ = changes.wait_for(|stopped| *stopped) => {
                Err(Status::cancelled("another part of the image failed: cancelled"))
            }
            done = doing => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_is_stopped_and_nothing_begins_after_that() {
        let stop = Stop::default();
        assert_eq!(stop.unless(async { Ok(7) }).await.unwrap(), 7);
        let ((), stopped) = tokio::join!(
            async { stop.now() },
            stop.unless(std::future::pending::<Result<(), Status>>())
        );
        assert!(stopped.is_err());
        assert!(stop.unless(async { Ok(7) }).await.is_err());
    }
}
