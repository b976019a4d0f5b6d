//! Whether the caller of a transfer is gone.

use tokio::sync::watch;

/// A caller that waits for its transfer; it is gone when this is dropped.
pub(super) struct Here(#[expect(dead_code, reason = "what matters is its end")] watch::Sender<()>);

/// Tells when a caller is gone. Clones are the same.
#[derive(Clone)]
pub(super) struct Gone(watch::Receiver<()>);

/// A caller, and who wants to know whether it is gone.
pub(super) fn pair() -> (Here, Gone) {
    let (here, gone) = watch::channel(());
    (Here(here), Gone(gone))
}

impl Gone {
    /// Returns when the caller is gone.
    pub(super) async fn wait(&self) {
        let mut changes = self.0.clone();
        // Nothing is ever sent.
        while changes.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_caller_is_gone_when_it_no_longer_waits() {
        let (here, gone) = pair();
        assert!(gone.wait().now_or_never().is_none());
        drop(here);
        gone.wait().await;
        gone.clone().wait().await;
    }
}
