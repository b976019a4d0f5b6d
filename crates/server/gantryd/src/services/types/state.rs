//! `State`: containers as messages, and the names of those that did not answer.

use gantry_api::types;
use gantry_supervisor::Listed;
use tonic::{
    Response,
    metadata::{AsciiMetadataValue, MetadataMap},
};

use super::convert;

/// Longest list of names in the metadata, in bytes.
const MAX_NAMES: usize = 4096;

/// The answer to `State`.
pub(super) fn response(listed: Vec<Listed>) -> Response<types::StateResponse> {
    let stale = listed.iter().filter(|row| row.view.is_stale);
    let stale: Vec<String> = stale.map(|row| row.view.id.to_string()).collect();
    let containers = listed.into_iter().map(container).collect();
    let machine = Some(convert::machine());
    let mut response = Response::new(types::StateResponse { containers, machine });
    report_stale(&stale, response.metadata_mut());
    response
}

/// One container as a message.
pub(super) fn container(listed: Listed) -> types::Container {
    convert::container(listed.view, listed.pids)
}

/// Names those that did not answer, in the log and in the answer's metadata.
fn report_stale(stale: &[String], metadata: &mut MetadataMap) {
    if stale.is_empty() {
        return;
    }
    let names = stale.join(",");
    tracing::warn!(containers = names, "do not answer; their last known state is returned");
    let end = if names.len() <= MAX_NAMES {
        names.len()
    } else {
        names[..MAX_NAMES].rfind(',').unwrap_or(0)
    };
    // Ids are of letters, digits and some signs of ASCII.
    if let Ok(value) = AsciiMetadataValue::try_from(&names[..end]) {
        metadata.insert(gantry_api::STALE_CONTAINERS_METADATA, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_fit_are_reported() {
        let mut metadata = MetadataMap::new();
        report_stale(&[], &mut metadata);
        assert!(metadata.is_empty());
        let stale: Vec<_> = (0..1000).map(|number| format!("container-{number}")).collect();
        report_stale(&stale, &mut metadata);
        let names = metadata.get(gantry_api::STALE_CONTAINERS_METADATA).unwrap().to_str().unwrap();
        assert!(names.len() <= MAX_NAMES && names.len() > MAX_NAMES - 20, "{}", names.len());
        assert!(names.split(',').all(|name| name.starts_with("container-")), "{names}");
    }
}
