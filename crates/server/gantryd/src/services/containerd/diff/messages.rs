//! What requests say, and errors as answers.

use gantry_api::containerd::types;
use gantry_diff::{Compression, DiffError};
use gantry_domain::Mount;
use prost_types::Timestamp;
use tonic::Status;

use super::LAYER;
use crate::{rpc::code, services::containerd::status::invalid};

/// What is mounted.
pub(super) fn mounts(field: &'static str, mounts: Vec<types::Mount>) -> Result<Vec<Mount>, Status> {
    mounts.into_iter().map(|one| mount(field, one)).collect()
}

fn mount(field: &'static str, mount: types::Mount) -> Result<Mount, Status> {
    let types::Mount { r#type: kind, source, target, options } = mount;
    let has_nul = |text: &String| text.contains('\0');
    if [&kind, &source, &target].into_iter().chain(&options).any(has_nul) {
        return Err(invalid(field, format!("{field}: a mount has a NUL")));
    }
    if target.split('/').any(|part| part == "..") {
        return Err(invalid(field, format!("{field}: a target has a \"..\": {target:?}")));
    }
    Ok(Mount { kind, source, target, options })
}

/// The media type of a layer that is to be made, and its compression.
pub(super) fn media_type(asked: &str) -> Result<(String, Compression), Status> {
    let compression = match asked.strip_prefix(LAYER) {
        Some("") => Compression::None,
        Some("+gzip") => Compression::Gzip,
        Some("+zstd") => Compression::Zstd,
        _ if asked.is_empty() => return Ok((format!("{LAYER}+gzip"), Compression::Gzip)),
        _ => {
            let message = format!("unsupported diff media type: {asked}: not implemented");
            return Err(Status::unimplemented(message));
        }
    };
    Ok((asked.to_owned(), compression))
}

/// Seconds since 1970.
pub(super) fn epoch(time: Option<Timestamp>) -> Result<Option<u64>, Status> {
    let field = "source_date_epoch";
    let seconds = time.map(|time| u64::try_from(time.seconds)).transpose();
    seconds.map_err(|_| invalid(field, format!("{field}: is before 1970")))
}

/// The answer for an error, with containerd's code: where it has no better one that is UNKNOWN.
pub(super) fn of_diff(error: &DiffError) -> Status {
    let code = error.kind().map_or(tonic::Code::Unknown, code);
    tracing::info!(?code, %error, "a layer was not applied or made");
    Status::new(code, error.to_string())
}

/// No file is longer.
pub(super) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn layers_of_oci_can_be_made() {
        let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
        assert_eq!(media_type("").unwrap(), (gzip.to_owned(), Compression::Gzip));
        assert_eq!(media_type(LAYER).unwrap().1, Compression::None);
        for bad in ["application/vnd.docker.image.rootfs.diff.tar.gzip", "a", "+gzip"] {
            let error = media_type(bad).unwrap_err();
            assert_eq!(error.code(), Code::Unimplemented);
            let message = format!("unsupported diff media type: {bad}: not implemented");
            assert_eq!(error.message(), message);
        }
    }

    #[test]
    fn mounts_are_checked() {
        let of = |source: &str, target: &str| {
            let (source, target) = (source.to_owned(), target.to_owned());
            mounts("left", vec![types::Mount { source, target, ..types::Mount::default() }])
        };
        assert!(of("/a", "b/c").is_ok());
        for (source, target) in [("/a\0", ""), ("/a", "b/../../c")] {
            assert_eq!(of(source, target).unwrap_err().code(), Code::InvalidArgument);
        }
        assert!(epoch(Some(Timestamp { seconds: -1, nanos: 0 })).is_err());
        assert_eq!(epoch(Some(Timestamp { seconds: 7, nanos: 8 })).unwrap(), Some(7));
    }
}
