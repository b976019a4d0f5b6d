//! The task that the restart monitor creates for a container.

use gantry_api::containerd::{tasks::CreateTaskRequest, types::Mount};
use gantry_domain::ContainerId;
use gantry_store::Container;
use gantry_supervisor::{Caller, NewTask};
use tonic::Status;

use super::{create, json};

/// With the container's specification, runtime and options, with these mounts as its root file system, and with its
/// output in `log`, a URI, or nowhere.
pub(in crate::services::containerd) fn restarted(
    container: Container,
    id: ContainerId,
    rootfs: Vec<Mount>,
    log: Option<&str>,
) -> Result<NewTask, Status> {
    let terminal = json::has_terminal(container.spec.as_ref());
    let log = log.unwrap_or_default().to_owned();
    let request = CreateTaskRequest {
        container_id: container.id.clone(),
        // A terminal has one output.
        stderr: if terminal { String::new() } else { log.clone() },
        stdout: log,
        terminal,
        rootfs,
        ..CreateTaskRequest::default()
    };
    create::new_task(request, container, id, Caller::default())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gantry_api::containerd::type_url;
    use gantry_store::{AnyValue, Runtime};

    use super::*;

    fn of(spec: &str, log: Option<&str>) -> NewTask {
        let container = Container {
            id: "c".to_owned(),
            runtime: Runtime { name: "io.containerd.runc.v2".to_owned(), options: None },
            spec: Some(AnyValue { type_url: type_url::SPEC.to_owned(), value: spec.into() }),
            ..Container::default()
        };
        restarted(container, ContainerId::parse("c").unwrap(), Vec::new(), log).unwrap()
    }

    #[test]
    fn a_terminal_has_one_output_and_everything_else_two() {
        let log = Some("file:///log");
        let path = Some(Path::new("file:///log"));
        let new = of(r#"{"process":{"terminal":true}}"#, log);
        assert_eq!(
            (new.terminal, new.stdio.stdout.as_deref(), new.stdio.stderr),
            (true, path, None)
        );
        for spec in [r#"{"process":{}}"#, "{}", "{"] {
            let new = of(spec, log);
            assert!(!new.terminal);
            assert_eq!(new.stdio.stdout.as_deref(), path);
            assert_eq!(new.stdio.stderr.as_deref(), path);
        }
        assert_eq!(of("{}", None).stdio.stdout, None);
    }
}
