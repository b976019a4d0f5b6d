//! One transfer: whose it is, what keeps its content, and who hears how far it is.

use std::time::{Duration, SystemTime};

use gantry_content::Content;
use gantry_domain::Namespace;
use gantry_failpoints::{Point, reach};
use gantry_store::{Digest, LABEL_EXPIRE, Labels, Store};
use prost_types::Timestamp;
use tonic::Status;

use super::{Gone, Progress};
use crate::services::containerd::{Surface, status::of_store};

/// When a lease ends whose server has died.
const LEASE: Duration = Duration::from_secs(24 * 60 * 60);

/// One transfer.
pub(super) struct Call {
    pub(super) surface: Surface,
    pub(super) namespace: Namespace,
    /// What is written is added to it.
    pub(super) lease: String,
    /// Whether it was made for this transfer.
    pub(super) is_own: bool,
    pub(super) content: Content,
    pub(super) progress: Progress,
    pub(super) gone: Gone,
}

impl Call {
    /// Begins a transfer; `lease` is the caller's, if it has one.
    pub(super) async fn begin(
        surface: Surface,
        namespace: Namespace,
        lease: Option<String>,
        progress: Progress,
        gone: Gone,
    ) -> Result<Self, Status> {
        let content = surface.content().await?;
        let is_own = lease.is_none();
        let lease = match lease {
            Some(lease) => lease,
            None => {
                let labels = [(LABEL_EXPIRE.to_owned(), rfc3339(SystemTime::now() + LEASE))];
                let made = content.store().create_lease(&namespace, "", Labels::from(labels)).await;
                surface.0.leases_changed.notify_one();
                let made = made.map_err(of_store)?;
                reach(Point::ServerTransferLeased);
                made.id
            }
        };
        Ok(Self { surface, namespace, lease, is_own, content, progress, gone })
    }

    /// Ends it: what nothing refers to by now may be collected.
    pub(super) async fn end(self) {
        if !self.is_own {
            return;
        }
        match self.store().delete_lease(&self.namespace, &self.lease).await {
            Ok(_) => reach(Point::ServerTransferReleased),
            Err(error) => {
                let lease = self.lease;
                tracing::warn!(%error, lease, "a transfer's lease stays until it expires");
            }
        }
    }

    pub(super) fn store(&self) -> &Store {
        self.content.store()
    }

    /// Has the transfer's lease keep a blob, and what that refers to; whether the blob is there.
    pub(super) async fn keep(&self, digest: &Digest) -> Result<bool, Status> {
        let lease = Some(self.lease.clone());
        self.store().lease_blob(&self.namespace, digest, lease).await.map_err(of_store)
    }

    /// An error if the caller is gone meanwhile; `doing` is dropped then.
    pub(super) async fn unless_gone<T>(
        &self,
        doing: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        tokio::select! {
            done = doing => done,
            () = self.gone.wait() => Err(Status::cancelled("the caller is gone: cancelled")),
        }
    }
}

/// A time as labels have it.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let seconds = Timestamp::from(time).seconds;
    Timestamp { seconds, nanos: 0 }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_labels() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_900);
        assert_eq!(rfc3339(time), "2023-11-14T22:13:20Z");
    }
}
