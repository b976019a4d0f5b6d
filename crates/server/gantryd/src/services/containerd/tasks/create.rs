//! A task that is to be created, as its request and its container's metadata describe it.

use gantry_api::containerd::{tasks::CreateTaskRequest, types};
use gantry_domain::{ContainerId, Mount};
use gantry_store::Container;
use gantry_supervisor::{Caller, NewTask};
use tonic::Status;

use super::{checkpoint, json, options, stdio};
use crate::rpc::BadField;

/// Checks the request before anything is done.
pub(super) fn new_task(
    request: CreateTaskRequest,
    container: Container,
    id: ContainerId,
    caller: Caller,
) -> Result<NewTask, Status> {
    if !request.task_api_address.is_empty() {
        let problem = "task_api_address: tasks of other shims cannot be taken in: not implemented";
        return Err(Status::unimplemented(problem));
    }
    let mut runtime = options::runtime(&container.runtime, &request)?;
    if let (None, Some(checkpoint)) = (&runtime.criu_image, &request.checkpoint) {
        runtime.criu_image = checkpoint::image(checkpoint)?;
    }
    let labels = container.labels.iter().map(|(key, value)| format!("{key}={value}"));
    Ok(NewTask {
        caller,
        id,
        labels: labels.collect(),
        idempotency: None,
        spec: json::spec(container.spec)?,
        rootfs: request.rootfs.into_iter().map(mount).collect::<Result<_, _>>()?,
        stdio: stdio::parse(&request.stdin, &request.stdout, &request.stderr)?,
        terminal: request.terminal,
        runtime,
        image: None,
    })
}

/// Something to be mounted within the root file system.
fn mount(mount: types::Mount) -> Result<Mount, BadField> {
    let types::Mount { r#type: kind, source, target, options } = mount;
    for (field, text) in
        [("rootfs.type", &kind), ("rootfs.source", &source), ("rootfs.target", &target)]
    {
        if text.contains('\0') {
            return Err(BadField::new(field, "must not contain a NUL"));
        }
    }
    if options.iter().any(|option| option.contains('\0')) {
        return Err(BadField::new("rootfs.options", "must not contain a NUL"));
    }
    if target.split('/').any(|part| part == "..") {
        return Err(BadField::new("rootfs.target", format!("must not contain '..': {target:?}")));
    }
    Ok(Mount { kind, source, target, options })
}

#[cfg(test)]
mod tests {
    use gantry_api::containerd::type_url;
    use gantry_store::{AnyValue, Runtime};
    use tonic::Code;

    use super::*;

    fn container() -> Container {
        Container {
            id: "c".to_owned(),
            runtime: Runtime { name: "io.containerd.runc.v2".to_owned(), options: None },
            spec: Some(AnyValue { type_url: type_url::SPEC.to_owned(), value: b"{}".to_vec() }),
            ..Container::default()
        }
    }

    fn made(request: CreateTaskRequest) -> Result<NewTask, Status> {
        let id = ContainerId::parse("c").unwrap();
        new_task(request, container(), id, Caller(7))
    }

    #[test]
    fn a_checkpoint_may_be_a_path() {
        let checkpoint = Some(types::Descriptor::default());
        let content = CreateTaskRequest { checkpoint, ..CreateTaskRequest::default() };
        assert_eq!(made(content).unwrap().runtime.criu_image, None);
        let path = |path: &str| {
            Some(types::Descriptor {
                annotations: [("RestoreFromPath".to_owned(), path.to_owned())].into(),
                ..types::Descriptor::default()
            })
        };
        let request = CreateTaskRequest { checkpoint: path("/i"), ..CreateTaskRequest::default() };
        let new = made(request).unwrap();
        assert_eq!(new.runtime.criu_image.as_deref(), Some(std::path::Path::new("/i")));
        let request = CreateTaskRequest { checkpoint: path("i"), ..CreateTaskRequest::default() };
        assert_eq!(made(request).unwrap_err().code(), Code::InvalidArgument);
    }

    #[test]
    fn tasks_of_other_shims_are_unimplemented() {
        let task_api_address = "unix:///s".to_owned();
        let shim = CreateTaskRequest { task_api_address, ..CreateTaskRequest::default() };
        assert_eq!(made(shim).unwrap_err().code(), Code::Unimplemented);
    }

    #[test]
    fn mounts_stay_within_the_root() {
        let rootfs = |target: &str, option: &str| CreateTaskRequest {
            rootfs: vec![types::Mount {
                r#type: "bind".to_owned(),
                source: "/a".to_owned(),
                target: target.to_owned(),
                options: vec![option.to_owned()],
            }],
            ..CreateTaskRequest::default()
        };
        let new = made(rootfs("etc/x", "ro")).unwrap();
        assert_eq!((new.rootfs[0].kind.as_str(), new.rootfs[0].options.len()), ("bind", 1));
        assert_eq!(new.spec, b"{}");
        for (target, option) in [("../x", ""), ("a/../..", ""), ("a\0", ""), ("", "r\0")] {
            assert_eq!(made(rootfs(target, option)).unwrap_err().code(), Code::InvalidArgument);
        }
    }
}
