//! Records as they are in the database: a version, then the fields one after the other, numbers
//! little-endian and texts preceded by their length.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{AnyValue, Blob, Container, Digest, Ingest, Labels, Lease, Runtime};

/// The version of the records below.
pub(crate) const VERSION: u8 = 1;

/// Why bytes are not a record.
pub(crate) type Fault = &'static str;

const SHORT: Fault = "it is too short";

pub(crate) fn encode_container(container: &Container) -> Vec<u8> {
    let Container { id: _, labels, image, runtime, spec, snapshotter, snapshot_key, .. } =
        container;
    let mut record = vec![VERSION];
    put_labels(&mut record, labels);
    put(&mut record, image.as_bytes());
    put(&mut record, runtime.name.as_bytes());
    put_option(&mut record, runtime.options.as_ref());
    put_option(&mut record, spec.as_ref());
    put(&mut record, snapshotter.as_bytes());
    put(&mut record, snapshot_key.as_bytes());
    put_time(&mut record, container.created_at);
    put_time(&mut record, container.updated_at);
    put_length(&mut record, container.extensions.len());
    for (key, value) in &container.extensions {
        put(&mut record, key.as_bytes());
        put_any(&mut record, value);
    }
    put(&mut record, container.sandbox.as_bytes());
    record
}

pub(crate) fn decode_container(id: &str, record: &[u8]) -> Result<Container, Fault> {
    let mut fields = Fields::of(record)?;
    let container = Container {
        id: id.to_owned(),
        labels: fields.labels()?,
        image: fields.text()?,
        runtime: Runtime { name: fields.text()?, options: fields.option()? },
        spec: fields.option()?,
        snapshotter: fields.text()?,
        snapshot_key: fields.text()?,
        created_at: fields.time()?,
        updated_at: fields.time()?,
        extensions: fields.extensions()?,
        sandbox: fields.text()?,
    };
    fields.end(container)
}

pub(crate) fn encode_lease(lease: &Lease) -> Vec<u8> {
    let mut record = vec![VERSION];
    put_time(&mut record, lease.created_at);
    put_labels(&mut record, &lease.labels);
    record
}

pub(crate) fn decode_lease(id: &str, record: &[u8]) -> Result<Lease, Fault> {
    let mut fields = Fields::of(record)?;
    let created_at = fields.time()?;
    let lease = Lease { id: id.to_owned(), labels: fields.labels()?, created_at };
    fields.end(lease)
}

pub(crate) fn encode_labels(labels: &Labels) -> Vec<u8> {
    let mut record = vec![VERSION];
    put_labels(&mut record, labels);
    record
}

pub(crate) fn decode_labels(record: &[u8]) -> Result<Labels, Fault> {
    let mut fields = Fields::of(record)?;
    let labels = fields.labels()?;
    fields.end(labels)
}

/// Its digest is the key.
pub(crate) fn encode_blob(blob: &Blob) -> Vec<u8> {
    let mut record = vec![VERSION];
    put_number(&mut record, blob.size);
    put_time(&mut record, blob.created_at);
    put_time(&mut record, blob.updated_at);
    put_labels(&mut record, &blob.labels);
    record
}

pub(crate) fn decode_blob(digest: &str, record: &[u8]) -> Result<Blob, Fault> {
    let mut fields = Fields::of(record)?;
    let blob = Blob {
        digest: Digest::parse(digest)?,
        size: fields.number()?,
        created_at: fields.time()?,
        updated_at: fields.time()?,
        labels: fields.labels()?,
    };
    fields.end(blob)
}

/// Its reference is the key.
pub(crate) fn encode_ingest(ingest: &Ingest) -> Vec<u8> {
    let mut record = vec![VERSION];
    put_time(&mut record, ingest.started_at);
    put_number(&mut record, ingest.total);
    put(&mut record, ingest.expected.as_ref().map_or("", Digest::as_str).as_bytes());
    record.push(u8::from(ingest.is_shared));
    record.push(u8::from(ingest.expires_at.is_some()));
    if let Some(end) = ingest.expires_at {
        put_time(&mut record, end);
    }
    put(&mut record, ingest.lease.as_bytes());
    record
}

pub(crate) fn decode_ingest(reference: &str, record: &[u8]) -> Result<Ingest, Fault> {
    let mut fields = Fields::of(record)?;
    let ingest = Ingest {
        reference: reference.to_owned(),
        started_at: fields.time()?,
        total: fields.number()?,
        expected: match fields.text()?.as_str() {
            "" => None,
            digest => Some(Digest::parse(digest)?),
        },
        is_shared: fields.flag()?,
        expires_at: if fields.flag()? { Some(fields.time()?) } else { None },
        lease: fields.text()?,
    };
    fields.end(ingest)
}

pub(crate) fn put_number(record: &mut Vec<u8>, number: u64) {
    record.extend_from_slice(&number.to_le_bytes());
}

fn put_length(record: &mut Vec<u8>, length: usize) {
    put_number(record, length as u64);
}

pub(crate) fn put(record: &mut Vec<u8>, bytes: &[u8]) {
    put_length(record, bytes.len());
    record.extend_from_slice(bytes);
}

pub(crate) fn put_labels(record: &mut Vec<u8>, labels: &Labels) {
    put_length(record, labels.len());
    for (key, value) in labels {
        put(record, key.as_bytes());
        put(record, value.as_bytes());
    }
}

fn put_any(record: &mut Vec<u8>, any: &AnyValue) {
    put(record, any.type_url.as_bytes());
    put(record, &any.value);
}

fn put_option(record: &mut Vec<u8>, any: Option<&AnyValue>) {
    record.push(u8::from(any.is_some()));
    if let Some(any) = any {
        put_any(record, any);
    }
}

/// Seconds since the epoch and nanoseconds. The server's clock may be before the epoch, not far.
pub(crate) fn put_time(record: &mut Vec<u8>, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    record.extend_from_slice(&since.as_secs().to_le_bytes());
    record.extend_from_slice(&since.subsec_nanos().to_le_bytes());
}

/// The rest of a record.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn of(record: &'a [u8]) -> Result<Self, Fault> {
        match record.split_first() {
            Some((&VERSION, rest)) => Ok(Self(rest)),
            Some(_) => Err("it is of an unknown version"),
            None => Err(SHORT),
        }
    }

    pub(crate) fn end<T>(self, record: T) -> Result<T, Fault> {
        if self.0.is_empty() { Ok(record) } else { Err("it is too long") }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (array, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*array)
    }

    pub(crate) fn number(&mut self) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn length(&mut self) -> Result<usize, Fault> {
        usize::try_from(self.number()?).map_err(|_| SHORT)
    }

    fn flag(&mut self) -> Result<bool, Fault> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err("a field is neither there nor not"),
        }
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Fault> {
        let length = self.length()?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(bytes.to_vec())
    }

    pub(crate) fn text(&mut self) -> Result<String, Fault> {
        String::from_utf8(self.bytes()?).map_err(|_| "a text is not UTF-8")
    }

    pub(crate) fn labels(&mut self) -> Result<Labels, Fault> {
        let count = self.length()?;
        (0..count).map(|_| Ok((self.text()?, self.text()?))).collect()
    }

    fn any(&mut self) -> Result<AnyValue, Fault> {
        Ok(AnyValue { type_url: self.text()?, value: self.bytes()? })
    }

    fn option(&mut self) -> Result<Option<AnyValue>, Fault> {
        if self.flag()? { self.any().map(Some) } else { Ok(None) }
    }

    fn extensions(&mut self) -> Result<BTreeMap<String, AnyValue>, Fault> {
        let count = self.length()?;
        (0..count).map(|_| Ok((self.text()?, self.any()?))).collect()
    }

    pub(crate) fn time(&mut self) -> Result<SystemTime, Fault> {
        let seconds = u64::from_le_bytes(self.array()?);
        let nanoseconds = u32::from_le_bytes(self.array()?);
        let since = (nanoseconds < 1_000_000_000).then(|| Duration::new(seconds, nanoseconds));
        since.and_then(|since| UNIX_EPOCH.checked_add(since)).ok_or("a time is none")
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{Algorithm, tests::any_container};

    proptest! {
        #[test]
        fn a_container_comes_back_byte_for_byte(container in any_container()) {
            let record = encode_container(&container);
            prop_assert_eq!(decode_container(&container.id, &record), Ok(container.clone()));
            for length in 0..record.len() {
                prop_assert!(decode_container(&container.id, &record[..length]).is_err());
            }
            let lease = Lease { id: container.id, labels: container.labels, created_at: container.created_at };
            prop_assert_eq!(decode_lease(&lease.id, &encode_lease(&lease)), Ok(lease.clone()));
            prop_assert_eq!(decode_labels(&encode_labels(&lease.labels)), Ok(lease.labels));
        }

        #[test]
        fn content_comes_back_byte_for_byte(
            like in any_container(), size in any::<u64>(), hash in any::<[u8; 32]>(), flags in any::<(bool, bool)>(),
        ) {
            let digest = Digest::new(Algorithm::Sha256, &hash);
            let Container { labels, created_at, updated_at, .. } = like;
            let blob = Blob { digest: digest.clone(), size, labels, created_at, updated_at };
            prop_assert_eq!(decode_blob(digest.as_str(), &encode_blob(&blob)), Ok(blob.clone()));
            let ingest = Ingest {
                reference: like.image,
                started_at: created_at,
                total: size,
                expected: flags.0.then_some(digest),
                is_shared: flags.1,
                expires_at: flags.0.then_some(updated_at),
                lease: like.sandbox,
            };
            let record = encode_ingest(&ingest);
            prop_assert_eq!(decode_ingest(&ingest.reference, &record), Ok(ingest.clone()));
            for length in 0..record.len() {
                prop_assert!(decode_ingest(&ingest.reference, &record[..length]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..200)) {
            if let Ok(container) = decode_container("c", &bytes) {
                // Not equal: a key may be there twice.
                prop_assert!(encode_container(&container).len() <= bytes.len());
            }
            let _ = decode_lease("l", &bytes);
            let _ = decode_labels(&bytes);
            let _ = decode_ingest("r", &bytes);
            let _ = decode_blob("sha256:", &bytes);
        }
    }
}
