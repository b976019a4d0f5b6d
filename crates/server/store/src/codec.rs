//! Records as they are in the database: a version, then the fields one after the other, numbers
//! little-endian and texts preceded by their length.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{AnyValue, Container, Labels, Lease, Runtime};

/// The version of the records below.
const VERSION: u8 = 1;

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

fn put_length(record: &mut Vec<u8>, length: usize) {
    record.extend_from_slice(&(length as u64).to_le_bytes());
}

fn put(record: &mut Vec<u8>, bytes: &[u8]) {
    put_length(record, bytes.len());
    record.extend_from_slice(bytes);
}

fn put_labels(record: &mut Vec<u8>, labels: &Labels) {
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
fn put_time(record: &mut Vec<u8>, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    record.extend_from_slice(&since.as_secs().to_le_bytes());
    record.extend_from_slice(&since.subsec_nanos().to_le_bytes());
}

/// The rest of a record.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn of(record: &'a [u8]) -> Result<Self, Fault> {
        match record.split_first() {
            Some((&VERSION, rest)) => Ok(Self(rest)),
            Some(_) => Err("it is of an unknown version"),
            None => Err(SHORT),
        }
    }

    fn end<T>(self, record: T) -> Result<T, Fault> {
        if self.0.is_empty() { Ok(record) } else { Err("it is too long") }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (array, rest) = self.0.split_first_chunk().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*array)
    }

    fn length(&mut self) -> Result<usize, Fault> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| SHORT)
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Fault> {
        let length = self.length()?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(bytes.to_vec())
    }

    fn text(&mut self) -> Result<String, Fault> {
        String::from_utf8(self.bytes()?).map_err(|_| "a text is not UTF-8")
    }

    fn labels(&mut self) -> Result<Labels, Fault> {
        let count = self.length()?;
        (0..count).map(|_| Ok((self.text()?, self.text()?))).collect()
    }

    fn any(&mut self) -> Result<AnyValue, Fault> {
        Ok(AnyValue { type_url: self.text()?, value: self.bytes()? })
    }

    fn option(&mut self) -> Result<Option<AnyValue>, Fault> {
        match self.array()? {
            [0] => Ok(None),
            [1] => self.any().map(Some),
            _ => Err("a field is neither there nor not"),
        }
    }

    fn extensions(&mut self) -> Result<BTreeMap<String, AnyValue>, Fault> {
        let count = self.length()?;
        (0..count).map(|_| Ok((self.text()?, self.any()?))).collect()
    }

    fn time(&mut self) -> Result<SystemTime, Fault> {
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
    use crate::tests::any_container;

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
        fn any_bytes_are_read_or_refused(bytes in vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..200)) {
            if let Ok(container) = decode_container("c", &bytes) {
                // Not equal: a key may be there twice.
                prop_assert!(encode_container(&container).len() <= bytes.len());
            }
            let _ = decode_lease("l", &bytes);
            let _ = decode_labels(&bytes);
        }
    }
}
