//! The store as its callers see it.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use gantry_domain::Namespace;

use crate::{
    Container, ContainerPage, Labels, Lease, LeasePage, Resource, ResourcePage, StoreError,
    containers, engine::Engine, filter::Filters, leases, namespaces, validate, worker::Workers,
};

/// Namespaces, containers, images, leases, and records of content. Clones are the same store. Dropping a call's
/// future does not undo the change: it is made or not.
///
/// All calls fail with [`StoreError::Busy`] if too many wait, [`StoreError::Closed`] after
/// [`Store::close`], [`StoreError::NoRoom`] or [`StoreError::Database`] if the disk fails, and
/// [`StoreError::Damaged`] if a record is.
#[derive(Clone)]
pub struct Store(pub(crate) Workers);

/// What became of the file of a former server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Where the file is now, if it was damaged: the store is empty.
    pub quarantined: Option<PathBuf>,
    /// What was wrong with it.
    pub reason: Option<String>,
}

impl Recovery {
    /// Whether everything that was stored is there.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.quarantined.is_none()
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.quarantined, &self.reason) {
            (Some(path), Some(reason)) => {
                write!(f, "the metadata is damaged, and now {}: {reason}", path.display())
            }
            _ => f.write_str("the metadata is as it was left"),
        }
    }
}

impl Store {
    /// Opens the store in the directory `dir`, or makes one. Waits for the disk: to be called on a thread that
    /// may.
    ///
    /// # Errors
    /// If the file cannot be opened, is in use or of a newer version, or no thread can be started. A damaged
    /// file is no error, see [`Recovery`].
    pub fn open(dir: &Path) -> Result<(Self, Recovery), StoreError> {
        let (engine, recovery) = Engine::open(dir)?;
        Ok((Self(Workers::start(engine)?), recovery))
    }

    /// Waits for what was asked for before, and closes the file. Further calls are refused.
    pub async fn close(&self) {
        self.0.close().await;
    }

    /// Stores a container that is not there yet, with both times set to now; gives it as stored. The namespace
    /// is created with it.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], [`StoreError::AlreadyExists`].
    pub async fn create_container(
        &self,
        namespace: &Namespace,
        container: Container,
    ) -> Result<Container, StoreError> {
        validate::container("create container failed validation", &container)?;
        let (namespace, bytes) = (namespace.clone(), size(&container));
        let create = move |transaction: &_| containers::create(transaction, &namespace, container);
        self.0.write(bytes, create).await
    }

    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn container(
        &self,
        namespace: &Namespace,
        id: &str,
    ) -> Result<Container, StoreError> {
        let (namespace, id) = (namespace.clone(), id.to_owned());
        self.0.read(move |transaction| containers::get(transaction, &namespace, &id)).await
    }

    /// The first containers that match, or the first with a greater id than `after`. A page has about 1 MiB,
    /// and is of one moment; the next one is of a later moment.
    ///
    /// # Errors
    /// As all calls.
    pub async fn container_page(
        &self,
        namespace: &Namespace,
        filters: &Filters,
        after: Option<String>,
    ) -> Result<ContainerPage, StoreError> {
        let (namespace, filters) = (namespace.clone(), filters.clone());
        let page = move |transaction: &_| {
            containers::page(transaction, &namespace, &filters, after.as_deref())
        };
        self.0.read(page).await
    }

    /// Takes from `container` what the paths of `mask` name, or all that can be changed if there are none:
    /// `labels`, `labels.KEY`, `spec`, `extensions`, `extensions.KEY`, `image`, `snapshotkey`. A label or
    /// extension that is named and not there, or an empty label, is deleted. Gives the container as stored.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if a path is none of these, if without a mask an immutable field
    /// (runtime's name, snapshotter) differs, or if the outcome is not valid; [`StoreError::NotFound`].
    pub async fn update_container(
        &self,
        namespace: &Namespace,
        container: Container,
        mask: Vec<String>,
    ) -> Result<Container, StoreError> {
        if container.id.is_empty() {
            return Err(StoreError::invalid("container.id", "must specify a container id"));
        }
        let bytes = size(&container) + mask.iter().map(String::len).sum::<usize>();
        let namespace = namespace.clone();
        let update =
            move |transaction: &_| containers::update(transaction, &namespace, container, &mask);
        self.0.write(bytes, update).await
    }

    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn delete_container(
        &self,
        namespace: &Namespace,
        id: &str,
    ) -> Result<(), StoreError> {
        let (namespace, id) = (namespace.clone(), id.to_owned());
        self.0.release(move |change| containers::delete(change, &namespace, &id)).await
    }

    /// Makes a namespace; gives its labels as stored.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]; [`StoreError::AlreadyExists`], also if it has come to be with an object.
    pub async fn create_namespace(
        &self,
        namespace: &Namespace,
        labels: Labels,
    ) -> Result<Labels, StoreError> {
        validate::labels("namespace.labels", "namespace.Labels", &labels)?;
        let (namespace, bytes) = (namespace.clone(), size_of_labels(&labels));
        let create = move |transaction: &_| namespaces::create(transaction, &namespace, labels);
        self.0.write(bytes, create).await
    }

    /// The labels of a namespace; none if there is no such namespace, which is no error in containerd.
    ///
    /// # Errors
    /// As all calls.
    pub async fn namespace_labels(&self, namespace: &Namespace) -> Result<Labels, StoreError> {
        let namespace = namespace.clone();
        self.0.read(move |transaction| namespaces::labels(transaction, &namespace)).await
    }

    /// All namespaces that were created or have had an object, and their labels.
    ///
    /// # Errors
    /// As all calls.
    pub async fn namespaces(&self) -> Result<Vec<(Namespace, Labels)>, StoreError> {
        self.0.read(namespaces::list).await
    }

    /// Sets the labels that the paths `labels.KEY` of `mask` name, or all labels if there are none or one is
    /// `labels`; an empty value deletes. Makes the namespace if it is not there. Gives its labels.
    ///
    /// # Errors
    /// [`StoreError::Invalid`].
    pub async fn update_namespace(
        &self,
        namespace: &Namespace,
        labels: Labels,
        mask: Vec<String>,
    ) -> Result<Labels, StoreError> {
        let bytes = size_of_labels(&labels) + mask.iter().map(String::len).sum::<usize>();
        let namespace = namespace.clone();
        let update =
            move |transaction: &_| namespaces::update(transaction, &namespace, &labels, &mask);
        self.0.write(bytes, update).await
    }

    /// Deletes a namespace, and its leases.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::FailedPrecondition`] if it has images, blobs or containers.
    pub async fn delete_namespace(&self, namespace: &Namespace) -> Result<(), StoreError> {
        let namespace = namespace.clone();
        self.0.release(move |transaction| namespaces::delete(transaction, &namespace)).await
    }

    /// Makes a lease, with an id of the store's choice if `id` is empty. The namespace is created with it.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], [`StoreError::AlreadyExists`].
    pub async fn create_lease(
        &self,
        namespace: &Namespace,
        id: &str,
        labels: Labels,
    ) -> Result<Lease, StoreError> {
        if !id.is_empty() {
            validate::text("lease.id", id)?;
        }
        validate::labels("lease.labels", "lease.Labels", &labels)?;
        let (namespace, id, bytes) = (namespace.clone(), id.to_owned(), size_of_labels(&labels));
        let create = move |transaction: &_| leases::create(transaction, &namespace, id, labels);
        self.0.write(bytes, create).await
    }

    /// The first leases that match, or the first with a greater id than `after`. A page has about 256 KiB, and is of
    /// one moment; the next one is of a later moment.
    ///
    /// # Errors
    /// As all calls.
    pub async fn lease_page(
        &self,
        namespace: &Namespace,
        filters: &Filters,
        after: Option<String>,
    ) -> Result<LeasePage, StoreError> {
        let (namespace, filters) = (namespace.clone(), filters.clone());
        let page = move |read: &_| leases::list(read, &namespace, &filters, after.as_deref());
        self.0.read(page).await
    }

    /// Deletes a lease, with the names of its resources.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn delete_lease(&self, namespace: &Namespace, id: &str) -> Result<(), StoreError> {
        let (namespace, id) = (namespace.clone(), id.to_owned());
        self.0.release(move |change| leases::delete(change, &namespace, &id)).await
    }

    /// When the first lease ends that does, of all namespaces; see [`Lease::expires_at`].
    ///
    /// # Errors
    /// As all calls.
    pub async fn first_lease_end(&self) -> Result<Option<SystemTime>, StoreError> {
        self.0.read(leases::first_end).await
    }

    /// Deletes the leases of all namespaces that have ended by `now`; gives them.
    ///
    /// # Errors
    /// As all calls.
    pub async fn expire_leases(
        &self,
        now: SystemTime,
    ) -> Result<Vec<(Namespace, Lease)>, StoreError> {
        if self.first_lease_end().await?.is_none_or(|end| end > now) {
            return Ok(Vec::new());
        }
        self.0.release(move |transaction| leases::expire(transaction, now)).await
    }

    /// Has the lease keep a resource, be it there or not.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such lease, [`StoreError::Invalid`] and
    /// [`StoreError::Unimplemented`] if it is no resource.
    pub async fn add_resource(
        &self,
        namespace: &Namespace,
        lease: &str,
        resource: Resource,
    ) -> Result<(), StoreError> {
        validate::resource(&resource)?;
        let (namespace, lease) = (namespace.clone(), lease.to_owned());
        let add = move |change: &_| leases::add_resource(change, &namespace, &lease, &resource);
        self.0.write(0, add).await
    }

    /// Has the lease keep it no longer. One that the lease does not have is no error.
    ///
    /// # Errors
    /// As [`Store::add_resource`].
    pub async fn delete_resource(
        &self,
        namespace: &Namespace,
        lease: &str,
        resource: Resource,
    ) -> Result<(), StoreError> {
        validate::resource(&resource)?;
        let (namespace, lease) = (namespace.clone(), lease.to_owned());
        let delete =
            move |change: &_| leases::delete_resource(change, &namespace, &lease, &resource);
        self.0.release(delete).await
    }

    /// As [`Store::lease_page`], of what the lease keeps.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn resource_page(
        &self,
        namespace: &Namespace,
        lease: &str,
        after: Option<Resource>,
    ) -> Result<ResourcePage, StoreError> {
        let (namespace, lease) = (namespace.clone(), lease.to_owned());
        let page = move |read: &_| leases::resources(read, &namespace, &lease, after.as_ref());
        self.0.read(page).await
    }
}

/// About how many bytes a container has.
fn size(container: &Container) -> usize {
    let any = |any: &crate::AnyValue| any.type_url.len() + any.value.len();
    let options = container.runtime.options.as_ref().map_or(0, any);
    let extensions: usize =
        container.extensions.iter().map(|(key, value)| key.len() + any(value)).sum();
    let spec = container.spec.as_ref().map_or(0, any);
    size_of_labels(&container.labels) + container.image.len() + options + extensions + spec
}

pub(crate) fn size_of_labels(labels: &Labels) -> usize {
    labels.iter().map(|(key, value)| key.len() + value.len()).sum()
}
