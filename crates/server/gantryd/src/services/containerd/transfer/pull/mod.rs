//! Registry to image store: an image is fetched, with all that it consists of, and unpacked.
//!
//! Documents are fetched one after the other. The layers of an image are fetched several at a time, and unpacked from the
//! lowest on as they come. What breaks off is kept: the next pull fetches the rest.

mod fetch;
mod stop;

use std::collections::HashSet;

use fetch::Fetcher;
use futures_util::{StreamExt, future::join, stream::FuturesUnordered};
use gantry_domain::Kind;
use gantry_failpoints::{Point, reach};
use gantry_images::{
    Descriptor, MAX_DOCUMENT, Walk, children, media_type, read_document, reference_labels,
};
use stop::Stop;
use tokio::sync::oneshot;
use tonic::Status;

use super::{
    Call, ImageStore,
    registry::{Registry, SourceLabel},
    tracker::Tracker,
    unpack::{Chain, Unpacker},
};
use crate::services::containerd::status::{invalid, of_images, of_registry, of_store, reported};

/// How many layers of an image are fetched at a time.
const AT_A_TIME: usize = 3;

/// A manifest as registries had it before 2016.
const VERSION_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

pub(super) async fn run(call: &Call, from: &Registry, to: &ImageStore) -> Result<(), Status> {
    let shown = from.shown();
    call.progress.event(&format!("Resolving from {shown}")).await;
    let repository = call.unless_gone(from.open(call)).await?;
    let resolving = async {
        repository.resolve().await.map_err(|error| match error.kind() {
            // In containerd's words, which scripts look for.
            Some(Kind::NotFound) => Status::not_found(format!("{}: not found", from.name())),
            _ => of_registry(error),
        })
    };
    let found = call.unless_gone(resolving).await;
    let found = found.map_err(|status| reported("failed to resolve image", &status))?;
    if VERSION_1.contains(&&*found.media_type) {
        return Err(invalid("source", "schema 1 image manifests are no longer supported"));
    }
    let image = Descriptor::new(&found.media_type, found.digest, found.size);
    call.progress.event(&format!("Pulling from {shown}")).await;
    call.progress.of("fetching image content", from.name(), &image).await;
    let tracker = Tracker::new(&call.progress, from.name());
    let source = SourceLabel::of(repository.reference());
    let fetcher = Fetcher { call, repository: &repository, tracker: &tracker, source };
    let pull = Pull { call, to, fetcher, tracker: &tracker };
    pull.all(&image).await?;
    for stored in to.store(call, &image).await? {
        call.progress.of("saved", &stored.name, &image).await;
    }
    call.progress.event(&format!("Completed pull from {shown}")).await;
    Ok(())
}

/// One pull.
struct Pull<'a> {
    call: &'a Call,
    to: &'a ImageStore,
    fetcher: Fetcher<'a>,
    tracker: &'a Tracker<'a>,
}

impl Pull<'_> {
    /// Fetches an image, and all of its parts that are wanted.
    async fn all(&self, image: &Descriptor) -> Result<(), Status> {
        let unpacker = Unpacker::of_request(self.call, &self.to.unpacks).await?;
        let mut walk = Walk::from(image.clone());
        while let Some(next) = walk.next() {
            let parts = self.parts(&next).await?;
            if !media_type::is_manifest(&next.media_type) {
                walk.add(parts).map_err(of_images)?;
                continue;
            }
            let (layers, others): (Vec<_>, Vec<_>) =
                parts.into_iter().partition(|part| media_type::is_layer(&part.media_type));
            self.fetch_all(&others).await?;
            let config = others.iter().find(|part| media_type::is_config(&part.media_type));
            let chain = match (&unpacker, config) {
                (Some(unpacker), Some(config)) => unpacker.chain(config, &layers).await?,
                _ => None,
            };
            match chain {
                Some(chain) => self.fetch_and_unpack(&layers, &chain).await?,
                None => self.fetch_all(&layers).await?,
            }
        }
        Ok(())
    }

    /// Fetches a document, and gives what it consists of, as far as that is wanted. Other content has no parts.
    async fn parts(&self, of: &Descriptor) -> Result<Vec<Descriptor>, Status> {
        let is_document =
            media_type::is_manifest(&of.media_type) || media_type::is_index(&of.media_type);
        if is_document && of.size > MAX_DOCUMENT {
            let Descriptor { digest, size, .. } = of;
            let message = format!(
                "{digest} has {size} bytes, at most {MAX_DOCUMENT} are read: resource exhausted"
            );
            return Err(Status::resource_exhausted(message));
        }
        self.fetcher.fetch(of, &Stop::default()).await?;
        if !is_document {
            return Ok(Vec::new());
        }
        let call = self.call;
        let document =
            read_document(&call.content, &call.namespace, &of.digest).await.map_err(of_images)?;
        let parts = children(of, &document).map_err(of_images)?;
        // First of all, so that nothing of it is collected while the rest comes.
        let labels = reference_labels(&parts);
        let mask = labels.keys().map(|label| format!("labels.{label}")).collect();
        let labelled = call.store().update_blob(&call.namespace, &of.digest, labels, mask).await;
        labelled.map_err(of_store)?;
        reach(Point::ServerReferencesLabelled);
        let wanted = self.to.filter.wanted(of, parts).map_err(of_images)?;
        self.tracker.note(of, &wanted);
        Ok(wanted)
    }

    /// Fetches parts that have no parts.
    async fn fetch_all(&self, parts: &[Descriptor]) -> Result<(), Status> {
        let mut seen = HashSet::new();
        let once = parts.iter().filter(|part| seen.insert(&part.digest));
        self.fetch_each(once.map(|part| (part, None)).collect(), &Stop::default()).await
    }

    /// Fetches layers, and unpacks each as soon as it is there and those below are unpacked.
    async fn fetch_and_unpack(
        &self,
        layers: &[Descriptor],
        chain: &Chain<'_>,
    ) -> Result<(), Status> {
        let present = chain.present().await?;
        let stop = Stop::default();
        let (mut fetched, mut waiting) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for layer in &layers[present..] {
            if !seen.insert(&layer.digest) {
                // The first layer of this digest, which is waited for before, brings the content of all of them.
                waiting.push(None);
                continue;
            }
            let (is_there, arrived) = oneshot::channel();
            fetched.push((layer, Some(is_there)));
            waiting.push(Some(arrived));
        }
        let unpack = async {
            for (layer, arrived) in (present..layers.len()).zip(waiting) {
                if let Some(arrived) = arrived
                    && arrived.await.is_err()
                {
                    // The error is that of the fetch.
                    return Ok(());
                }
                self.tracker.extracting(&layers[layer]).await;
                let added = chain.add(layer).await;
                if added.is_err() {
                    stop.now();
                }
                added?;
                self.tracker.extracted(&layers[layer]).await;
            }
            Ok(())
        };
        // Both to their ends, as changes of content have to be done to theirs.
        let (fetched, unpacked) = join(self.fetch_each(fetched, &stop), unpack).await;
        unpacked.and(fetched)?;
        chain.finish().await
    }

    /// Fetches several parts of different digests at a time, and tells who waits for one. The first that fails stops the others.
    async fn fetch_each(
        &self,
        parts: Vec<(&Descriptor, Option<oneshot::Sender<()>>)>,
        stop: &Stop,
    ) -> Result<(), Status> {
        for (part, _) in &parts {
            self.tracker.waiting(part).await;
        }
        let (mut parts, mut running) = (parts.into_iter(), FuturesUnordered::new());
        let mut first = Ok(());
        loop {
            while running.len() < AT_A_TIME
                && let Some((part, is_there)) = parts.next()
            {
                running.push(Box::pin(self.fetch_one(part, is_there, stop)));
            }
            match running.next().await {
                // The errors of those that were stopped come later.
                Some(fetched) => first = first.and(fetched),
                None => return first,
            }
        }
    }

    async fn fetch_one(
        &self,
        part: &Descriptor,
        is_there: Option<oneshot::Sender<()>>,
        stop: &Stop,
    ) -> Result<(), Status> {
        let fetched = self.fetcher.fetch(part, stop).await;
        match (&fetched, is_there) {
            (Ok(()), Some(is_there)) => {
                // Nobody waits if unpacking has failed.
                let _ = is_there.send(());
            }
            (Err(_), _) => stop.now(),
            _ => {}
        }
        fetched
    }
}
