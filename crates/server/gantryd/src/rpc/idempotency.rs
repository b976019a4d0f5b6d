//! The metadata by which a caller can repeat a request whose answer was lost.

use std::sync::Arc;

use gantry_supervisor::IdempotencyKey;
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Request;

use super::BadField;

/// The key, as metadata of the request.
pub(crate) const IDEMPOTENCY_METADATA: &str = "gantry-idempotency-key";

/// More than any UUID has.
const LONGEST: usize = 128;

/// The key of a request, if it has one.
pub(crate) fn idempotency<T: Message>(
    request: &Request<T>,
) -> Result<Option<Arc<IdempotencyKey>>, BadField> {
    let mut values = request.metadata().get_all(IDEMPOTENCY_METADATA).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let bad = |problem: String| BadField::new(IDEMPOTENCY_METADATA, problem);
    if values.next().is_some() {
        return Err(bad("must be given once".to_owned()));
    }
    let bytes = value.as_bytes();
    if bytes.is_empty() || bytes.len() > LONGEST || !bytes.iter().all(u8::is_ascii_graphic) {
        let problem = format!("must be 1 to {LONGEST} printable ASCII characters without spaces");
        return Err(bad(problem));
    }
    let key = String::from_utf8_lossy(bytes).into_owned();
    let digest = Sha256::digest(request.get_ref().encode_to_vec());
    let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(Arc::new(IdempotencyKey { key, digest })))
}

#[cfg(test)]
mod tests {
    use gantry_api::types::CreateContainerRequest;

    use super::*;

    fn request(id: &str, keys: &[&str]) -> Request<CreateContainerRequest> {
        let message = CreateContainerRequest { id: id.to_owned(), ..Default::default() };
        let mut request = Request::new(message);
        for key in keys {
            request.metadata_mut().append(IDEMPOTENCY_METADATA, key.parse().unwrap());
        }
        request
    }

    #[test]
    fn a_key_tells_requests_apart() {
        let of = |id: &str, key: &str| idempotency(&request(id, &[key])).unwrap().unwrap();
        assert!(idempotency(&request("a", &[])).unwrap().is_none());
        assert_eq!(of("a", "k"), of("a", "k"));
        assert_eq!(of("a", "k").digest, of("a", "other").digest);
        assert_ne!(of("a", "k").digest, of("b", "k").digest);
        assert_eq!(of("a", "k").digest.len(), 64);
    }

    #[test]
    fn keys_are_bounded() {
        assert!(idempotency(&request("a", &[&"k".repeat(LONGEST)])).is_ok());
        for keys in [&["k", "k"][..], &[""], &["a b"], &[&"k".repeat(LONGEST + 1)]] {
            let refused = idempotency(&request("a", keys)).unwrap_err();
            assert_eq!(refused.field, IDEMPOTENCY_METADATA, "{keys:?}");
        }
    }
}
