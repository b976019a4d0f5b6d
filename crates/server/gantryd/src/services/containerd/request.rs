//! Names in requests, checked once: all other code has valid namespaces and ids.

use gantry_api::containerd::{LEASE_METADATA, NAMESPACE_METADATA};
use gantry_domain::{ContainerId, Namespace, ProcessId};
use gantry_store::{check_identifier, filter::Filters};
use tonic::{Request, Status};

use super::status::{invalid, no_process, of_store};

/// The namespace that the request's metadata names.
pub(super) fn namespace<T>(request: &Request<T>) -> Result<Namespace, Status> {
    let Some(name) = request.metadata().get(NAMESPACE_METADATA) else { return Err(required()) };
    let field = NAMESPACE_METADATA;
    let name = name.to_str().map_err(|_| {
        invalid(field, format!("namespace validation: identifier {name:?} must be ASCII"))
    })?;
    if name.is_empty() {
        return Err(required());
    }
    named(field, name).map_err(|problem| invalid(field, format!("namespace validation: {problem}")))
}

/// The namespace with this name, or what is wrong with the name.
pub(super) fn named(field: &'static str, name: &str) -> Result<Namespace, String> {
    check_identifier(name)?;
    Namespace::named(name).map_err(|error| format!("{field} {error}"))
}

fn required() -> Status {
    Status::failed_precondition("namespace is required: failed precondition")
}

/// The lease that the request's metadata name, if they do.
pub(super) fn lease<T>(request: &Request<T>) -> Result<Option<String>, Status> {
    let Some(id) = request.metadata().get(LEASE_METADATA) else { return Ok(None) };
    let id = id.to_str().map_err(|_| invalid(LEASE_METADATA, "the lease must be ASCII"))?;
    Ok((!id.is_empty()).then(|| id.to_owned()))
}

/// The filters of a list.
pub(super) fn filters(filters: &[String]) -> Result<Filters, Status> {
    Filters::parse(filters).map_err(|error| of_store(error.into()))
}

/// The id of a container, and of its task; `field` is named in the error.
pub(super) fn container_id(field: &'static str, id: &str) -> Result<ContainerId, Status> {
    check_identifier(id).map_err(|problem| invalid(field, problem))?;
    ContainerId::parse(id).map_err(|error| invalid(field, format!("{field} {error}")))
}

/// The id of an exec that is to be added.
pub(super) fn new_exec_id(field: &'static str, id: &str) -> Result<ProcessId, Status> {
    if id.is_empty() {
        return Err(invalid(field, "exec id cannot be empty"));
    }
    check_identifier(id)
        .map_err(|problem| invalid(field, format!("invalid exec id {id:?}: {problem}")))?;
    let process = ProcessId::parse(id).map_err(|error| invalid(field, error.to_string()))?;
    if process.is_init() {
        return Err(invalid(field, format!("invalid exec id {id:?}: the first process has it")));
    }
    Ok(process)
}

/// The process that an exec's id names; an empty one is the first process's.
pub(super) fn process_id(exec_id: &str) -> Result<ProcessId, Status> {
    if exec_id.is_empty() {
        return Ok(ProcessId::init());
    }
    // No process can have such an id.
    new_exec_id("exec_id", exec_id).map_err(|_| no_process(exec_id))
}

#[cfg(test)]
mod tests {
    use tonic::{Code, metadata::MetadataValue};

    use super::*;

    fn of(name: &'static [u8]) -> Result<Namespace, Status> {
        let mut request = Request::new(());
        let value = MetadataValue::try_from(name).unwrap();
        request.metadata_mut().insert(NAMESPACE_METADATA, value);
        namespace(&request)
    }

    #[test]
    fn a_namespace_is_required_and_checked() {
        let missing = namespace(&Request::new(())).unwrap_err();
        assert_eq!(missing.code(), Code::FailedPrecondition);
        assert_eq!(missing.message(), "namespace is required: failed precondition");
        assert_eq!(of(b"").unwrap_err().code(), Code::FailedPrecondition);
        assert_eq!(of(b"k8s.io").unwrap().name(), "k8s.io");
        for bad in [&b"a/b"[..], b"..", b"a..b", b"\xc3\xa4", &[b'x'; 77]] {
            let error = of(bad).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{error:?}");
            assert!(error.message().ends_with(": invalid argument"), "{error:?}");
        }
    }

    #[test]
    fn an_exec_is_not_the_first_process() {
        assert!(process_id("").unwrap().is_init());
        assert_eq!(process_id("init").unwrap_err().code(), Code::NotFound);
        assert_eq!(process_id("a/b").unwrap_err().code(), Code::NotFound);
        assert_eq!(new_exec_id("exec_id", "init").unwrap_err().code(), Code::InvalidArgument);
        let empty = new_exec_id("exec_id", "").unwrap_err();
        assert_eq!(empty.message(), "exec id cannot be empty: invalid argument");
        assert!(container_id("container_id", "+a").is_err());
        assert_eq!(new_exec_id("exec_id", "e1").unwrap().as_str(), "e1");
    }
}
