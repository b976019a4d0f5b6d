//! Images as they are in the database.

use super::{Descriptor, Image};
use crate::codec::{Fault, Fields, VERSION, put, put_labels, put_number, put_time};

/// Its name is the key.
pub(super) fn encode(image: &Image) -> Vec<u8> {
    let Image { name: _, labels, target, created_at, updated_at } = image;
    let Descriptor { media_type, digest, size, annotations } = target;
    let mut record = vec![VERSION];
    put(&mut record, media_type.as_bytes());
    put(&mut record, digest.as_bytes());
    put_number(&mut record, *size);
    put_labels(&mut record, annotations);
    put_labels(&mut record, labels);
    put_time(&mut record, *created_at);
    put_time(&mut record, *updated_at);
    record
}

pub(crate) fn decode(name: &str, record: &[u8]) -> Result<Image, Fault> {
    let mut fields = Fields::of(record)?;
    let target = Descriptor {
        media_type: fields.text()?,
        digest: fields.text()?,
        size: fields.number()?,
        annotations: fields.labels()?,
    };
    let image = Image {
        name: name.to_owned(),
        target,
        labels: fields.labels()?,
        created_at: fields.time()?,
        updated_at: fields.time()?,
    };
    fields.end(image)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{Container, tests::any_container};

    proptest! {
        #[test]
        fn an_image_comes_back_byte_for_byte(
            like in any_container(), other in any_container(), size in any::<u64>(),
        ) {
            let Container { id, image, labels, created_at, updated_at, sandbox, .. } = like;
            let (annotations, digest) = (other.labels, other.image);
            let target = Descriptor { media_type: sandbox, digest, size, annotations };
            let image = Image { name: id + &image, labels, target, created_at, updated_at };
            let record = encode(&image);
            prop_assert_eq!(decode(&image.name, &record), Ok(image.clone()));
            for length in 0..record.len() {
                prop_assert!(decode(&image.name, &record[..length]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..200)) {
            if let Ok(image) = decode("i", &bytes) {
                // Not equal: a key may be there twice.
                prop_assert!(encode(&image).len() <= bytes.len());
            }
        }
    }
}
