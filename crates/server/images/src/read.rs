//! Documents that are content.

use gantry_content::Content;
use gantry_domain::Namespace;
use gantry_store::Digest;

use crate::{ImageError, MAX_DOCUMENT};

/// Reads a whole document. The future may be dropped.
///
/// # Errors
/// If the namespace does not have it, it is longer than [`MAX_DOCUMENT`], or cannot be read.
pub async fn read_document(
    content: &Content,
    namespace: &Namespace,
    digest: &Digest,
) -> Result<Vec<u8>, ImageError> {
    let size = content.store().blob(namespace, digest).await?.size;
    if size > MAX_DOCUMENT {
        let (digest, most) = (digest.clone(), MAX_DOCUMENT);
        return Err(ImageError::LongDocument { digest, size, most });
    }
    let mut reader = content.read(namespace, digest, 0, None).await?;
    let mut document = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    while let Some(piece) = reader.next().await? {
        document.extend(piece);
    }
    Ok(document)
}
