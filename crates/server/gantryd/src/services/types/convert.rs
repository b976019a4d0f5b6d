//! Between the API's messages and what the supervisor knows.

use gantry_api::{Timestamp, types};
use gantry_domain::{ConsoleSize, Event, EventKind, Phase, ProcessSpec, Rlimit, User};
use gantry_supervisor::CheckpointConfig;
use gantry_supervisor::ContainerView;
use tonic::metadata::MetadataMap;

use super::{capabilities, parse};
use crate::rpc::BadField;
use crate::services::exit::status as exit_status;
pub(super) use crate::services::time::timestamp;
use crate::services::time::{YEAR_ONE, moment};

pub(super) fn server_version() -> types::GetServerVersionResponse {
    let number = |text: &str| text.parse().unwrap_or_default();
    types::GetServerVersionResponse {
        major: number(env!("CARGO_PKG_VERSION_MAJOR")),
        minor: number(env!("CARGO_PKG_VERSION_MINOR")),
        patch: number(env!("CARGO_PKG_VERSION_PATCH")),
        revision: env!("CARGO_PKG_VERSION_PRE").to_owned(),
    }
}

pub(super) fn machine() -> types::Machine {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total());
    types::Machine { cpus: u32::try_from(cpus).unwrap_or(u32::MAX), memory: memory >> 20 }
}

pub(super) fn container(view: ContainerView, pids: Vec<u32>) -> types::Container {
    let status = match view.phase {
        Phase::Starting | Phase::Created | Phase::Running => gantry_api::status::RUNNING,
        Phase::Paused => gantry_api::status::PAUSED,
        Phase::Stopped(_) => gantry_api::status::STOPPED,
    };
    types::Container {
        id: view.id.to_string(),
        bundle_path: view.bundle.display().to_string(),
        processes: view.processes.iter().map(|of| process(&of.spec, of.pid)).collect(),
        status: status.to_owned(),
        labels: view.labels.to_vec(),
        pids,
        runtime: view.runtime,
    }
}

fn process(spec: &ProcessSpec, system_pid: u32) -> types::Process {
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_deref().map(|path| path.display().to_string()).unwrap_or_default()
    };
    types::Process {
        pid: spec.id.to_string(),
        terminal: spec.terminal,
        user: Some(types::User {
            uid: spec.user.uid,
            gid: spec.user.gid,
            additional_gids: spec.user.additional_gids.clone(),
        }),
        args: spec.args.clone(),
        env: spec.env.clone(),
        cwd: spec.cwd.clone(),
        system_pid,
        stdin: path(&spec.stdio.stdin),
        stdout: path(&spec.stdio.stdout),
        stderr: path(&spec.stdio.stderr),
        capabilities: spec.capabilities.clone(),
        apparmor_profile: spec.apparmor_profile.clone(),
        selinux_label: spec.selinux_label.clone(),
        no_new_privileges: spec.no_new_privileges,
        rlimits: spec
            .rlimits
            .iter()
            .map(|limit| types::Rlimit {
                r#type: limit.kind.clone(),
                soft: limit.soft,
                hard: limit.hard,
            })
            .collect(),
    }
}

/// A further process, as it was asked for.
pub(super) fn process_spec(request: types::AddProcessRequest) -> Result<ProcessSpec, BadField> {
    let id = parse::process_id(&request.pid)?;
    if request.args.is_empty() {
        return Err(BadField::new("args", "must name a program"));
    }
    let user = request.user.unwrap_or_default();
    Ok(ProcessSpec {
        id,
        terminal: request.terminal,
        console_size: None,
        user: User { uid: user.uid, gid: user.gid, additional_gids: user.additional_gids },
        args: parse::strings("args", request.args)?,
        env: parse::strings("env", request.env)?,
        cwd: request.cwd,
        stdio: parse::stdio(&request.stdin, &request.stdout, &request.stderr)?,
        capabilities: capabilities::parse(request.capabilities)?,
        apparmor_profile: request.apparmor_profile,
        selinux_label: request.selinux_label,
        no_new_privileges: request.no_new_privileges,
        rlimits: request
            .rlimits
            .into_iter()
            .map(|limit| Rlimit { kind: limit.r#type, soft: limit.soft, hard: limit.hard })
            .collect(),
        oci: None,
    })
}

/// The terminal's first size, for which the message has no field.
pub(super) fn console_size_metadata(
    metadata: &MetadataMap,
) -> Result<Option<ConsoleSize>, BadField> {
    let Some(value) = metadata.get(gantry_api::CONSOLE_SIZE_METADATA) else { return Ok(None) };
    let size = value.to_str().ok().and_then(|text| text.split_once('x'));
    let size = size.and_then(|(width, height)| {
        Some(ConsoleSize { width: width.parse().ok()?, height: height.parse().ok()? })
    });
    let problem = || BadField::new(gantry_api::CONSOLE_SIZE_METADATA, "must be WIDTHxHEIGHT");
    size.map(Some).ok_or_else(problem)
}

pub(super) fn checkpoint(config: CheckpointConfig) -> types::Checkpoint {
    types::Checkpoint {
        name: config.name,
        exit: config.exit,
        tcp: config.tcp,
        unix_sockets: config.unix_sockets,
        shell: config.shell,
        empty_ns: config.empty_ns,
    }
}

/// An event as a message; none for kinds that `types.API` does not have.
pub(super) fn event(event: &Event) -> Option<types::Event> {
    use gantry_api::event_type;
    // Only a process's start and exit name it: old clients take any other event with a process
    // for one of an exec, and look for an exec called "init".
    let (kind, process, status) = match &event.kind {
        EventKind::ContainerStarted { .. } => (event_type::START_CONTAINER, None, 0),
        EventKind::ProcessStarted { process, .. } => {
            (event_type::START_PROCESS, Some(process.clone()), 0)
        }
        EventKind::Exited { process, exit, .. } => {
            (event_type::EXIT, Some(process.clone()), exit_status(exit.status))
        }
        EventKind::Paused => (event_type::PAUSE, None, 0),
        EventKind::Resumed => (event_type::RESUME, None, 0),
        EventKind::OutOfMemory => (event_type::OOM, None, 0),
        EventKind::Created(_)
        | EventKind::ProcessAdded { .. }
        | EventKind::Checkpointed { .. }
        | EventKind::Deleted { .. } => return None,
    };
    Some(types::Event {
        r#type: kind.to_owned(),
        id: event.container.id.to_string(),
        status,
        pid: process.map(String::from).unwrap_or_default(),
        timestamp: Some(timestamp(event.at)),
    })
}

/// Go's zero time (year 1), which old clients send, means no timestamp.
pub(super) fn from_timestamp(at: Timestamp) -> Result<Option<gantry_domain::Timestamp>, BadField> {
    let is_none = at == (Timestamp { seconds: YEAR_ONE, nanos: 0 });
    moment("timestamp", &at).map(|at| Some(at).filter(|_| !is_none))
}

#[cfg(test)]
mod tests {
    use gantry_domain::{
        ContainerId, ContainerKey, Exit, ExitStatus, Generation, Namespace, ProcessId,
    };

    use super::*;
    use crate::services::time::YEAR_9999;

    #[test]
    fn times_survive_the_round_trip() {
        for nanos in [0, 1, 999_999_999, 1_700_000_000_123_456_789] {
            let at = gantry_domain::Timestamp(nanos);
            assert_eq!(from_timestamp(timestamp(at)).unwrap(), Some(at));
        }
        let before = Timestamp { seconds: -1, nanos: 999_999_999 };
        assert_eq!(from_timestamp(before).unwrap(), Some(gantry_domain::Timestamp(0)));
        let not_given = Timestamp { seconds: YEAR_ONE, nanos: 0 };
        assert_eq!(from_timestamp(not_given).unwrap(), None);
        let late = Timestamp { seconds: YEAR_9999, nanos: 999_999_999 };
        assert_eq!(from_timestamp(late).unwrap(), Some(gantry_domain::Timestamp(u64::MAX)));
        for (seconds, nanos) in [
            (1, -1),
            (1, 1_000_000_000),
            (YEAR_9999 + 1, 0),
            (YEAR_ONE - 1, 0),
            (i64::MAX, 0),
            (i64::MIN, 0),
        ] {
            assert!(from_timestamp(Timestamp { seconds, nanos }).is_err(), "{seconds} {nanos}");
        }
    }

    #[test]
    fn only_starts_and_exits_of_processes_name_one() {
        let at = gantry_domain::Timestamp(1);
        let pid = |kind| {
            let id = ContainerId::parse("c").unwrap();
            let container = ContainerKey { namespace: Namespace::TYPES_API, id };
            event(&Event {
                at,
                container,
                generation: Generation(1),
                labels: gantry_domain::Labels::default(),
                kind,
            })
            .unwrap()
            .pid
        };
        let (process, generation) = (ProcessId::init(), Generation(1));
        let exit = Exit { status: ExitStatus::Code(0), at };
        for kind in [
            EventKind::ContainerStarted { pid: 7 },
            EventKind::Paused,
            EventKind::Resumed,
            EventKind::OutOfMemory,
        ] {
            assert_eq!(pid(kind.clone()), "", "{kind:?}");
        }
        assert_eq!(
            pid(EventKind::ProcessStarted { process: process.clone(), generation, pid: 7 }),
            "init"
        );
        assert_eq!(pid(EventKind::Exited { process, generation, pid: 7, exit }), "init");
    }
}
