//! Image store to registry: an image is sent with all that it consists of, what is referred to before what refers to it.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, FuturesUnordered},
};
use gantry_content::{Content, ContentError};
use gantry_domain::Namespace;
use gantry_images::{Descriptor, Walk, children, media_type, read_document};
use gantry_registry::{Chunks, Pushed, RegistryError, Repository, Source};
use gantry_store::{Digest, StoreError};
use tokio::time::{MissedTickBehavior, interval};
use tonic::Status;

use super::{
    Call, ImageStore,
    registry::{Registry, SourceLabel, remote},
    tracker::Tracker,
};
use crate::services::containerd::status::{of_images, of_registry, of_store};

/// How many parts are sent at a time.
const AT_A_TIME: usize = 3;

/// How often it is told how far a part is.
const TELL_EVERY: Duration = Duration::from_millis(300);

/// Content is only read: all is dropped in the middle if the caller is gone.
pub(super) async fn run(call: &Call, from: &ImageStore, to: &Registry) -> Result<(), Status> {
    call.unless_gone(async {
        let shown = to.shown();
        let image = from.get_kept(call).await?;
        let root = Descriptor::of_stored(&image.target).map_err(of_images)?;
        call.progress.event(&format!("Pushing to {shown}")).await;
        call.progress.of("pushing content", &image.name, &root).await;
        let repository = to.open(call).await?;
        let tracker = Tracker::new(&call.progress, &image.name);
        let source = SourceLabel::of(repository.reference());
        let push =
            Push { call, repository: &repository, tracker: &tracker, source, root: &root.digest };
        push.all(from, &root).await?;
        call.progress.of("pushed content", &image.name, &root).await;
        call.progress.of(&format!("Completed push to {shown}"), "", &root).await;
        Ok(())
    })
    .await
}

/// Content that is to be in the registry.
struct Blob {
    part: Descriptor,
    /// The repositories that what refers to it came from, as far as that is known.
    inherited: Arc<str>,
}

/// One push.
struct Push<'a> {
    call: &'a Call,
    repository: &'a Repository,
    tracker: &'a Tracker<'a>,
    source: SourceLabel,
    root: &'a Digest,
}

impl Push<'_> {
    async fn all(&self, from: &ImageStore, root: &Descriptor) -> Result<(), Status> {
        let (blobs, documents) = self.parts(from, root).await?;
        for part in documents.iter().chain(blobs.iter().map(|blob| &blob.part)) {
            self.tracker.waiting(part).await;
        }
        let (mut blobs, mut running) = (blobs.iter(), FuturesUnordered::new());
        loop {
            while running.len() < AT_A_TIME
                && let Some(blob) = blobs.next()
            {
                running.push(Box::pin(self.blob(blob)));
            }
            match running.next().await {
                Some(sent) => sent?,
                None => break,
            }
        }
        // A registry refuses what refers to something that is not there.
        for document in documents.iter().rev() {
            self.document(document).await?;
        }
        Ok(())
    }

    /// What the image consists of: content, and documents, each before what it refers to.
    async fn parts(
        &self,
        from: &ImageStore,
        root: &Descriptor,
    ) -> Result<(Vec<Blob>, Vec<Descriptor>), Status> {
        let (mut blobs, mut indexes, mut manifests) = (Vec::new(), Vec::new(), Vec::new());
        let (call, mut walk) = (self.call, Walk::from(root.clone()));
        // What is not here has no labels of its own, and came with what refers to it.
        let mut sources: HashMap<Digest, Arc<str>> = HashMap::new();
        while let Some(next) = walk.next() {
            let inherited = sources.get(&next.digest).map(Arc::clone);
            let is_manifest = media_type::is_manifest(&next.media_type);
            if !is_manifest && !media_type::is_index(&next.media_type) {
                blobs.push(Blob { part: next, inherited: inherited.unwrap_or_default() });
                continue;
            }
            let stored =
                call.store().blob(&call.namespace, &next.digest).await.map_err(of_store)?;
            let noted: Arc<str> = match self.source.noted(&stored.labels) {
                "" => inherited.unwrap_or_default(),
                noted => noted.into(),
            };
            let document = read_document(&call.content, &call.namespace, &next.digest).await;
            let parts = children(&next, &document.map_err(of_images)?).map_err(of_images)?;
            let wanted = from.filter.wanted(&next, parts).map_err(of_images)?;
            self.tracker.note(&next, &wanted);
            for part in &wanted {
                sources.entry(part.digest.clone()).or_insert_with(|| Arc::clone(&noted));
            }
            walk.add(wanted).map_err(of_images)?;
            if is_manifest { manifests.push(next) } else { indexes.push(next) }
        }
        indexes.extend(manifests);
        Ok((blobs, indexes))
    }

    /// A blob that is not here, as of a platform that was not pulled, may be in the registry.
    async fn blob(&self, Blob { part: blob, inherited }: &Blob) -> Result<(), Status> {
        let call = self.call;
        let stored = match call.store().blob(&call.namespace, &blob.digest).await {
            Err(StoreError::NotFound(_)) => None,
            stored => Some(stored.map_err(of_store)?),
        };
        let noted = stored.as_ref().map_or("", |stored| self.source.noted(&stored.labels));
        let noted = if noted.is_empty() { inherited } else { noted };
        let mount_from = self.source.nearest(noted);
        let source = BlobSource {
            content: call.content.clone(),
            namespace: call.namespace.clone(),
            digest: blob.digest.clone(),
            read: Arc::default(),
        };
        let part = remote(blob);
        let mut sending =
            Box::pin(self.repository.push_blob(&part, mount_from.as_deref(), &source));
        let mut ticks = interval(TELL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = 0;
        let pushed = loop {
            tokio::select! {
                pushed = &mut sending => break pushed.map_err(|error| match error {
                    RegistryError::Answer { .. } if stored.is_none() => {
                        Status::not_found(format!("content digest {}: not found", blob.digest))
                    }
                    error => of_registry(error),
                })?,
                _ = ticks.tick() => {
                    let read = source.read.load(Ordering::Relaxed);
                    if read != told {
                        told = read;
                        self.tracker.moving("uploading", blob, read).await;
                    }
                }
            }
        };
        self.done(blob, pushed).await
    }

    async fn document(&self, document: &Descriptor) -> Result<(), Status> {
        let call = self.call;
        let data = read_document(&call.content, &call.namespace, &document.digest)
            .await
            .map_err(of_images)?;
        let is_root = document.digest == *self.root;
        let pushed = self.repository.push_manifest(&remote(document), data.into(), is_root).await;
        self.done(document, pushed.map_err(of_registry)?).await
    }

    async fn done(&self, part: &Descriptor, pushed: Pushed) -> Result<(), Status> {
        match pushed {
            Pushed::Sent => self.tracker.complete(part).await,
            Pushed::Existed | Pushed::Mounted => self.tracker.exists(part).await,
        }
        self.source.note(&self.call.content, &self.call.namespace, &part.digest).await
    }
}

/// A blob of the content, as often as it has to be sent.
struct BlobSource {
    content: Content,
    namespace: Namespace,
    digest: Digest,
    /// How many bytes were read of it in the last attempt.
    read: Arc<AtomicU64>,
}

impl Source for BlobSource {
    fn open(&self) -> Pin<Box<dyn Future<Output = Result<Chunks, String>> + Send + '_>> {
        Box::pin(async {
            let failed = |error: ContentError| error.to_string();
            let reader =
                self.content.read(&self.namespace, &self.digest, 0, None).await.map_err(failed)?;
            let read = Arc::clone(&self.read);
            read.store(0, Ordering::Relaxed);
            let chunks = stream::try_unfold((reader, read), |(mut reader, read)| async move {
                let Some(piece) = reader.next().await.map_err(|error| error.to_string())? else {
                    return Ok(None);
                };
                read.fetch_add(piece.len() as u64, Ordering::Relaxed);
                Ok(Some((Bytes::from(piece), (reader, read))))
            });
            Ok(Box::pin(chunks) as Chunks)
        })
    }
}
