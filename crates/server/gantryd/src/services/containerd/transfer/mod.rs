//! Transfer: images are moved into the image store, out of it, and within.
//!
//! # A pair
//! A source and a destination are parsed here ([`Source`], [`Destination`]); each pair that images are moved between has a
//! module with a function that gets the [`Call`] and both, and is called in [`run`]. What pairs share: `image_store`
//! (names, filters), `unpack`, `progress`, and the streams of `streaming`.
//!
//! # A call
//! A transfer runs to its end in a task of its own, as changes of content have to; it ends soon when its caller is gone
//! ([`Gone`]). A lease keeps what it writes until it has ended, and a day at most if the server dies.

mod call;
mod echo;
mod export;
mod gone;
mod image_store;
mod import;
mod progress;
mod pull;
mod push;
mod registry;
mod tag;
mod tracker;
mod unpack;

use std::sync::Arc;

use call::Call;
use gantry_api::containerd::{
    from_any,
    transfer::{TransferRequest, transfer_server},
    types::transfer::{
        ImageExportStream, ImageImportStream, ImageStore as ImageStoreMessage, OciRegistry,
    },
};
use gantry_domain::Namespace;
use gone::Gone;
use image_store::ImageStore;
use progress::Progress;
use prost::Name;
use prost_types::Any;
use registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status};

use super::{Surface, request, status::invalid, to_the_end};
use crate::rpc::Charge;

/// How many transfers may be under way.
const MAX_TRANSFERS: usize = 64;

/// The longest source or destination in bytes, which are not decoded before.
const LONGEST: usize = 1 << 20;

/// What a byte of either costs when it is decoded: two may be an item of a list.
const COST_OF_A_BYTE: usize = 16;

/// The service.
pub(super) struct Service {
    surface: Surface,
    under_way: Arc<Semaphore>,
}

/// Where images come from.
enum Source {
    Store(ImageStore),
    Archive(import::Archive),
    Registry(Box<Registry>),
}

/// Where images go.
enum Destination {
    Store(ImageStore),
    Archive(Box<export::Archive>),
    Registry(Box<Registry>),
}

impl Source {
    /// The type of message that it was.
    fn type_name(&self) -> String {
        match self {
            Self::Store(_) => ImageStoreMessage::full_name(),
            Self::Archive(_) => ImageImportStream::full_name(),
            Self::Registry(_) => OciRegistry::full_name(),
        }
    }
}

impl Destination {
    /// The type of message that it was.
    fn type_name(&self) -> String {
        match self {
            Self::Store(_) => ImageStoreMessage::full_name(),
            Self::Archive(_) => ImageExportStream::full_name(),
            Self::Registry(_) => OciRegistry::full_name(),
        }
    }
}

impl Service {
    pub(super) fn new(surface: Surface) -> Self {
        Self { surface, under_way: Arc::new(Semaphore::new(MAX_TRANSFERS)) }
    }

    fn counted(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.under_way).try_acquire_owned().map_err(|_| {
            let message = format!("{MAX_TRANSFERS} transfers are under way: resource exhausted");
            Status::resource_exhausted(message)
        })
    }
}

#[tonic::async_trait]
impl transfer_server::Transfer for Service {
    async fn transfer(&self, request: Request<TransferRequest>) -> Result<Response<()>, Status> {
        let namespace = request::namespace(&request)?;
        let lease = request::lease(&request)?;
        let charge = request.extensions().get().map(Arc::<Charge>::clone);
        let TransferRequest { source, destination, options } = request.into_inner();
        let counted = self.counted()?;
        let streams = &self.surface.0.streams;
        let progress = options.map(|options| options.progress_stream).unwrap_or_default();
        let progress = match &*progress {
            "" => Progress::default(),
            id => Progress::on(streams.take(&namespace, id)?),
        };
        let source = source.unwrap_or_default();
        let destination = destination.unwrap_or_default();
        if let Some(charge) = &charge {
            charge.add(COST_OF_A_BYTE * (source.value.len() + destination.value.len()))?;
        }
        let source = self.source(&namespace, &source)?;
        let destination = self.destination(&namespace, &destination)?;
        let (_here, gone) = gone::pair();
        let surface = self.surface.clone();
        // Before anything is changed: without the supervisor no event of it could be published.
        surface.supervisor().await;
        let done = to_the_end(async move {
            let _counted = counted;
            let call = Call::begin(surface, namespace, lease, progress, gone).await?;
            let done = run(&call, source, destination).await;
            call.end().await;
            done
        });
        done.await.map(Response::new)
    }
}

impl Service {
    fn source(&self, namespace: &Namespace, any: &Any) -> Result<Source, Status> {
        let field = "source";
        if let Some(store) = message::<ImageStoreMessage>(field, any)? {
            return Ok(Source::Store(ImageStore::parse(field, store)?));
        }
        if let Some(archive) = message::<ImageImportStream>(field, any)? {
            let stream = self.surface.0.streams.take(namespace, &archive.stream)?;
            return Ok(Source::Archive(import::Archive::new(archive, stream)));
        }
        if let Some(registry) = message::<OciRegistry>(field, any)? {
            let streams = &self.surface.0.streams;
            let registry = Registry::new(registry, namespace, streams)?;
            return Ok(Source::Registry(Box::new(registry)));
        }
        Err(unknown(any))
    }

    fn destination(&self, namespace: &Namespace, any: &Any) -> Result<Destination, Status> {
        let field = "destination";
        if let Some(store) = message::<ImageStoreMessage>(field, any)? {
            return Ok(Destination::Store(ImageStore::parse(field, store)?));
        }
        if let Some(archive) = message::<ImageExportStream>(field, any)? {
            let stream = self.surface.0.streams.take(namespace, &archive.stream)?;
            let archive = export::Archive::new(archive, stream);
            return Ok(Destination::Archive(Box::new(archive)));
        }
        if let Some(registry) = message::<OciRegistry>(field, any)? {
            let streams = &self.surface.0.streams;
            let registry = Registry::new(registry, namespace, streams)?;
            return Ok(Destination::Registry(Box::new(registry)));
        }
        Err(unknown(any))
    }
}

/// Moves images between a pair.
async fn run(call: &Call, source: Source, destination: Destination) -> Result<(), Status> {
    match (source, destination) {
        (Source::Store(from), Destination::Store(to)) => tag::run(call, &from, &to).await,
        (Source::Archive(from), Destination::Store(to)) => import::run(call, from, &to).await,
        (Source::Store(from), Destination::Archive(to)) => export::run(call, &from, *to).await,
        (Source::Archive(from), Destination::Archive(to)) => echo::run(call, from, *to).await,
        (Source::Registry(from), Destination::Store(to)) => {
            Box::pin(pull::run(call, &from, &to)).await
        }
        (Source::Store(from), Destination::Registry(to)) => {
            Box::pin(push::run(call, &from, &to)).await
        }
        (source, destination) => {
            let (from, to) = (source.type_name(), destination.type_name());
            let message = format!("method Transfer not implemented for {from} to {to}");
            Err(Status::unimplemented(message))
        }
    }
}

/// The message, if it is of this type.
fn message<M: Name + Default>(field: &'static str, any: &Any) -> Result<Option<M>, Status> {
    let length = any.value.len();
    if length > LONGEST {
        let problem = format!("{field}: is {length} bytes long, at most {LONGEST} are allowed");
        return Err(invalid(field, problem));
    }
    from_any(any).map_err(|error| invalid(field, format!("{field}: {error}")))
}

/// Nobody moves images from or to such a thing.
fn unknown(any: &Any) -> Status {
    Status::not_found(format!("type with url {}: not found", any.type_url))
}
