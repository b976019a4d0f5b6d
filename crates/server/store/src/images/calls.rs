//! The store's calls on images.

use std::time::SystemTime;

use gantry_domain::Namespace;

use super::{Image, ImagePage, changes, table};
use crate::{Store, StoreError, filter::Filters, store::size_of_labels, validate};

impl Store {
    /// Stores an image that is not there yet, with both times set to `at`, or else to now; gives it as stored. The
    /// namespace is created with it. The lease keeps it if it has the label `containerd.io/gc.expire`.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], also of a time before 1970; [`StoreError::AlreadyExists`];
    /// [`StoreError::NotFound`] if there is no such lease that is to keep it.
    pub async fn create_image(
        &self,
        namespace: &Namespace,
        image: Image,
        lease: Option<String>,
        at: Option<SystemTime>,
    ) -> Result<Image, StoreError> {
        changes::check(&image)?;
        validate::epoch("source_date_epoch", at)?;
        let (namespace, bytes) = (namespace.clone(), size(&image));
        let create =
            move |change: &_| table::create(change, &namespace, image, lease.as_deref(), at);
        self.0.write(bytes, create).await
    }

    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn image(&self, namespace: &Namespace, name: &str) -> Result<Image, StoreError> {
        let (namespace, name) = (namespace.clone(), name.to_owned());
        self.0.read(move |transaction| table::get(transaction, &namespace, &name)).await
    }

    /// The first images that match, or the first with a greater name than `after`. A page has about 256 KiB, and
    /// is of one moment; the next one is of a later moment.
    ///
    /// # Errors
    /// As all calls.
    pub async fn image_page(
        &self,
        namespace: &Namespace,
        filters: &Filters,
        after: Option<String>,
    ) -> Result<ImagePage, StoreError> {
        let (namespace, filters) = (namespace.clone(), filters.clone());
        let page = move |read: &_| table::list(read, &namespace, &filters, after.as_deref());
        self.0.read(page).await
    }

    /// Takes from `image` what the paths of `mask` name, or labels and target if there are none: `labels`,
    /// `labels.KEY`, `target`, `annotations`, `annotations.KEY`; the last two are the target's. An empty value, or
    /// one that is named and not there, is deleted. The time is as in [`Store::create_image`], and so is the
    /// lease. Gives the image as stored.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if a path is none of these, or if the outcome is not valid;
    /// [`StoreError::NotFound`], also of the lease.
    pub async fn update_image(
        &self,
        namespace: &Namespace,
        image: Image,
        mask: Vec<String>,
        lease: Option<String>,
        at: Option<SystemTime>,
    ) -> Result<Image, StoreError> {
        if image.name.is_empty() {
            return Err(StoreError::invalid("image.name", "image name is required for update"));
        }
        validate::epoch("source_date_epoch", at)?;
        let bytes = size(&image) + mask.iter().map(String::len).sum::<usize>();
        let namespace = namespace.clone();
        let update =
            move |change: &_| table::update(change, &namespace, image, &mask, lease.as_deref(), at);
        self.0.write(bytes, update).await
    }

    /// Deletes an image; if there is a `target`, only if its content has this digest. What it names stays. The
    /// lease keeps it no longer.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], also if it names something else.
    pub async fn delete_image(
        &self,
        namespace: &Namespace,
        name: &str,
        target: Option<String>,
        lease: Option<String>,
    ) -> Result<(), StoreError> {
        let (namespace, name) = (namespace.clone(), name.to_owned());
        let delete = move |change: &_| {
            table::delete(change, &namespace, &name, target.as_deref(), lease.as_deref())
        };
        self.0.release(delete).await
    }
}

/// About how many bytes an image has.
fn size(image: &Image) -> usize {
    image.name.len() + size_of_labels(&image.labels) + size_of_labels(&image.target.annotations)
}
