//! One part of an image is fetched into the content: once for all pulls of a namespace that want it at a time,
//! from where it broke off before. No pull waits for one of another namespace, which may be slow; but what that one has
//! fetched to its end need not be fetched again.

use std::time::Duration;

use gantry_content::{ContentError, Writer};
use gantry_domain::Namespace;
use gantry_failpoints::{Point, reach};
use gantry_images::Descriptor;
use gantry_registry::{Remote, Repository};
use gantry_store::{Digest, Labels};
use tokio::time::Instant;
use tonic::Status;

use super::stop::Stop;
use crate::services::containerd::{
    key_locks::KeyGuard,
    status::{invalid, of_content, of_registry},
    transfer::{
        Call,
        registry::{SourceLabel, remote},
        tracker::{Tracker, part_key},
    },
};

/// How much is written at a time.
const PIECE: usize = 256 << 10;

/// What is as large as this is worth to be continued by another pull.
const LARGE: u64 = 1 << 20;

/// How often it is told how far a part is.
const TELL_EVERY: Duration = Duration::from_millis(300);

/// How long to wait before looking again at a write that somebody else holds, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Fetches parts of one image.
pub(super) struct Fetcher<'a> {
    pub(super) call: &'a Call,
    pub(super) repository: &'a Repository,
    pub(super) tracker: &'a Tracker<'a>,
    pub(super) source: SourceLabel,
}

/// A part that is fetched by one pull of its namespace.
struct Fetch {
    writer: Writer,
    /// Has other pulls of the namespace wait.
    alone: KeyGuard<(Namespace, Digest)>,
}

impl Fetcher<'_> {
    /// Has the content have a part, which the transfer's lease keeps.
    pub(super) async fn fetch(&self, part: &Descriptor, stop: &Stop) -> Result<(), Status> {
        if part.size == 0 {
            // A registry that is set up badly.
            let digest = &part.digest;
            let problem =
                format!("unable to fetch descriptor ({digest}) which reports content size of zero");
            return Err(invalid("source", problem));
        }
        if let Some(fetch) = self.begin(part, stop).await? {
            self.write(part, fetch, stop).await?;
            reach(Point::ServerPartFetched);
            self.tracker.complete(part).await;
        } else {
            self.tracker.exists(part).await;
        }
        self.source.note(&self.call.content, &self.call.namespace, &part.digest).await
    }

    /// Begins or continues a write of a part; `None` if it is there. Of several pulls of a namespace one writes it, and the
    /// others wait. Clients of the content, too, may be writing it: no pull holds up others while it waits for them.
    async fn begin(&self, part: &Descriptor, stop: &Stop) -> Result<Option<Fetch>, Status> {
        let call = self.call;
        let key = (call.namespace.clone(), part.digest.clone());
        let mut pause = FIRST_PAUSE;
        loop {
            let locking = async { Ok(call.surface.0.fetches.lock(key.clone()).await) };
            let alone = self.unless_over(stop, locking).await?;
            self.prepare(part).await?;
            let (digest, lease) = (Some(part.digest.clone()), Some(call.lease.clone()));
            let writer = call
                .content
                .writer(&call.namespace, part_key(part), part.size, digest, lease)
                .await;
            match writer {
                Ok(writer) => return Ok(Some(Fetch { writer, alone })),
                Err(ContentError::Exists(_)) => return Ok(None),
                Err(ContentError::Locked { .. }) => {
                    drop(alone);
                    let waiting = async {
                        tokio::time::sleep(pause).await;
                        Ok(())
                    };
                    self.unless_over(stop, waiting).await?;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(of_content(error)),
            }
        }
    }

    /// Creates the write of a large part without a lease, so that what comes before a failure is there for the next pull,
    /// until it is stale: writes that a transfer's own lease has created are removed with that lease.
    async fn prepare(&self, part: &Descriptor) -> Result<(), Status> {
        let call = self.call;
        if !call.is_own || part.size < LARGE {
            return Ok(());
        }
        let digest = Some(part.digest.clone());
        let begun = call.content.writer(&call.namespace, part_key(part), part.size, digest, None);
        match begun.await {
            Ok(_) | Err(ContentError::Exists(_) | ContentError::Locked { .. }) => Ok(()),
            Err(error) => Err(of_content(error)),
        }
    }

    /// Writes the rest of a part. What was written before may be wrong: then all of it is fetched once more. So may be what
    /// an address outside of the registry gave: then the registry alone is asked for all of it.
    async fn write(&self, part: &Descriptor, fetch: Fetch, stop: &Stop) -> Result<(), Status> {
        let Fetch { mut writer, mut alone } = fetch;
        if writer.offset() > part.size {
            writer.truncate().await.map_err(of_content)?;
        }
        let mut is_continued = writer.offset() > 0;
        let mut from = remote(part);
        loop {
            self.receive(part, &from, &mut writer, stop).await?;
            match self.commit(part, writer).await {
                Err(ContentError::Digest { .. }) if is_continued => is_continued = false,
                Err(ContentError::Digest { .. }) if !from.urls.is_empty() => from.urls.clear(),
                done => return done.map_err(of_content),
            }
            tracing::warn!(digest = %part.digest, "what was fetched is damaged, and fetched again");
            drop(alone);
            let Some(fetch) = self.begin(part, stop).await? else { return Ok(()) };
            Fetch { writer, alone } = fetch;
            writer.truncate().await.map_err(of_content)?;
        }
    }

    /// Makes it a blob. One that is wrong is of no use to anybody.
    async fn commit(&self, part: &Descriptor, writer: Writer) -> Result<(), ContentError> {
        let (call, from_start) = (self.call, part_key(part));
        match writer.commit(part.size, Some(part.digest.clone()), Labels::new()).await {
            Ok(_) | Err(ContentError::Exists(_)) => Ok(()),
            Err(error @ ContentError::Digest { .. }) => {
                if let Err(error) = call.content.abort(&call.namespace, &from_start).await {
                    tracing::warn!(%error, from_start, "a wrong write stays until it is stale");
                }
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Fetches the rest of a part. What came before an error is kept.
    async fn receive(
        &self,
        part: &Descriptor,
        from: &Remote,
        writer: &mut Writer,
        stop: &Stop,
    ) -> Result<(), Status> {
        let mut stream = self.repository.blob(from, writer.offset());
        let mut told = Instant::now();
        let mut piece = Vec::with_capacity(PIECE);
        loop {
            let coming = async { stream.next().await.map_err(of_registry) };
            let came = self.unless_over(stop, coming).await;
            let is_over = !matches!(came, Ok(Some(_)));
            if let Ok(Some(chunk)) = &came {
                piece.extend_from_slice(chunk);
            }
            if piece.len() >= PIECE || is_over {
                let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE));
                writer.write(full).await.map_err(of_content)?;
            }
            if is_over {
                return came.map(drop);
            }
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                self.tracker.moving("downloading", part, stream.offset()).await;
            }
        }
    }

    /// An error if the caller is gone, or another part has failed.
    async fn unless_over<T>(
        &self,
        stop: &Stop,
        doing: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        self.call.unless_gone(stop.unless(doing)).await
    }
}
