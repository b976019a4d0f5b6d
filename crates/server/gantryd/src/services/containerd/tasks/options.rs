//! The runtime of a task: its name, and the options of a `containerd.runc.v1.Options`.

use std::path::Path;

use gantry_api::containerd::{from_any, runc::Options, tasks::CreateTaskRequest};
use gantry_store::AnyValue;
use gantry_supervisor::{PipeOwner, TaskRuntime};
use prost_types::Any;
use tonic::Status;

use crate::{rpc::BadField, services::path};

/// Names of containerd's shims for runc. Here gantryd takes the place of these shims.
const NAMES: [&str; 2] = ["io.containerd.runc.v2", "io.containerd.runc.v1"];

/// Base names of the shim programs that containerd would start for them.
const SHIMS: [&str; 2] = ["containerd-shim-runc-v2", "containerd-shim-runc-v1"];

/// Package of the options of containerd's runtime v1, which is gone since containerd 2.0.
const OLD_OPTIONS: &str = "containerd.linux.runc.";

/// The runtime of the task: the request's, or else the container's.
pub(super) fn runtime(
    container: &gantry_store::Runtime,
    request: &CreateTaskRequest,
) -> Result<TaskRuntime, Status> {
    if request.runtime_path.is_empty() {
        check_name("container.runtime.name", &container.name)?;
    } else {
        check_name("runtime_path", &request.runtime_path)?;
    }
    // Options are not merged: those of a request, if they have a value, replace the container's as a whole.
    match (&request.options, &container.options) {
        (Some(options), _) if !options.value.is_empty() => of_options("options", options),
        (_, Some(AnyValue { type_url, value })) => {
            let options = Any { type_url: type_url.clone(), value: value.clone() };
            of_options("container.runtime.options", &options)
        }
        (Some(options), None) => of_options("options", options),
        (None, None) => Ok(TaskRuntime::default()),
    }
}

/// The runtime that a client asks about.
pub(in crate::services::containerd) fn asked_of(
    name: &str,
    options: Option<&Any>,
) -> Result<TaskRuntime, Status> {
    check_name("options.runtime_path", name)?;
    options.map_or_else(|| Ok(TaskRuntime::default()), |given| of_options("options.options", given))
}

fn check_name(field: &'static str, name: &str) -> Result<(), BadField> {
    let path = Path::new(name);
    let base = path.file_name().and_then(|base| base.to_str());
    let is_shim = path.is_absolute() && base.is_some_and(|base| SHIMS.contains(&base));
    if is_shim || NAMES.contains(&name) {
        return Ok(());
    }
    let [newer, older] = NAMES;
    let problem = format!(
        "there is no runtime {name:?}; there are {newer} and {older}, also as the absolute path of a {}, \
         and the program of another OCI runtime is named by binary_name in the options",
        SHIMS.join(" or ")
    );
    Err(BadField::new(field, problem))
}

fn of_options(field: &'static str, options: &Any) -> Result<TaskRuntime, Status> {
    if options.type_url.is_empty() && options.value.is_empty() {
        return Ok(TaskRuntime::default());
    }
    match from_any::<Options>(options) {
        Ok(Some(options)) => of_runc(options),
        Ok(None) => {
            let kind = options.type_url.as_str();
            let name = kind.rsplit_once('/').map_or(kind, |(_, name)| name);
            let old = if name.starts_with(OLD_OPTIONS) { ": that is of runtime v1" } else { "" };
            let problem = format!("is a {kind:?}, must be a containerd.runc.v1.Options{old}");
            Err(BadField::new(field, problem).into())
        }
        Err(error) => {
            let problem = format!("cannot be read as containerd.runc.v1.Options: {error}");
            Err(BadField::new(field, problem).into())
        }
    }
}

/// `io_uid` and `io_gid` are to own the pipes of the process's stdio, the caller's FIFOs among them: there are no
/// others between the process and the shim. `criu_path` is an option that no runtime accepts any more.
fn of_runc(options: Options) -> Result<TaskRuntime, Status> {
    if !options.shim_cgroup.is_empty() {
        // Shims are started before their containers are known, and need next to no memory or CPU time.
        let cgroup = options.shim_cgroup;
        tracing::debug!(cgroup, "shim_cgroup is not used: shims stay in the cgroup of the server");
    }
    Ok(TaskRuntime {
        program: program(options.binary_name)?,
        root: path::optional("options.root", &options.root)?,
        systemd_cgroup: options.systemd_cgroup,
        no_pivot_root: options.no_pivot_root,
        no_new_keyring: options.no_new_keyring,
        pipe_owner: PipeOwner { uid: options.io_uid, gid: options.io_gid },
        criu_image: path::optional("options.criu_image_path", &options.criu_image_path)?,
        criu_work: path::optional("options.criu_work_path", &options.criu_work_path)?,
    })
}

/// A name without a slash, for PATH, or an absolute path.
fn program(name: String) -> Result<String, BadField> {
    const FIELD: &str = "options.binary_name";
    if name.contains('/') {
        path::absolute(FIELD, &name)?;
    } else if name.contains('\0') {
        return Err(BadField::new(FIELD, "must not contain a NUL"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use gantry_api::containerd::to_any;
    use tonic::Code;

    use super::*;

    fn stored(name: &str, options: Option<Any>) -> gantry_store::Runtime {
        let options = options.map(|Any { type_url, value }| AnyValue { type_url, value });
        gantry_store::Runtime { name: name.to_owned(), options }
    }

    fn given(options: &Options) -> Any {
        to_any(options)
    }

    fn crun() -> Any {
        given(&Options {
            binary_name: "crun".to_owned(),
            root: "/r".to_owned(),
            ..Options::default()
        })
    }

    fn request(options: Option<Any>) -> CreateTaskRequest {
        CreateTaskRequest { options, ..CreateTaskRequest::default() }
    }

    fn message(container: &gantry_store::Runtime, request: &CreateTaskRequest) -> (Code, String) {
        let status = runtime(container, request).unwrap_err();
        (status.code(), status.message().to_owned())
    }

    #[test]
    fn a_runtime_has_a_name_or_the_path_of_a_shim() {
        for good in [
            "io.containerd.runc.v2",
            "io.containerd.runc.v1",
            "/usr/bin/containerd-shim-runc-v2",
            "/x/containerd-shim-runc-v1",
        ] {
            assert!(runtime(&stored(good, None), &request(None)).is_ok(), "{good}");
        }
        for bad in [
            "",
            "runc",
            "io.containerd.runtime.v1.linux",
            "io.containerd.kata.v2",
            "/usr/bin/crun",
            "containerd-shim-runc-v2",
            "x/containerd-shim-runc-v2",
            "/usr/bin/containerd-shim-kata-v2",
        ] {
            let (code, text) = message(&stored(bad, None), &request(None));
            assert_eq!(code, Code::InvalidArgument);
            assert!(text.starts_with("container.runtime.name: "), "{text}");
            assert!(
                text.contains("io.containerd.runc.v2") && text.contains("binary_name"),
                "{text}"
            );
        }
        // The request's name replaces the container's.
        let mut named = request(None);
        named.runtime_path = "/b/containerd-shim-runc-v2".to_owned();
        assert!(runtime(&stored("other", None), &named).is_ok());
        named.runtime_path = "/usr/bin/crun".to_owned();
        let (_, text) = message(&stored("io.containerd.runc.v2", None), &named);
        assert!(text.starts_with("runtime_path: "), "{text}");
    }

    #[test]
    fn options_of_the_request_stand_for_all_of_the_containers() {
        let container = stored("io.containerd.runc.v2", Some(crun()));
        let of = |options| runtime(&container, &request(options)).unwrap();
        let kept = of(None);
        assert_eq!((kept.program.as_str(), kept.root.as_deref()), ("crun", Some(Path::new("/r"))));
        // An Any without a value counts as missing.
        assert_eq!(of(Some(given(&Options::default()))).program, "crun");
        assert_eq!(of(Some(Any::default())).program, "crun");
        let other = of(Some(given(&Options { systemd_cgroup: true, ..Options::default() })));
        assert_eq!((other.program.as_str(), other.root), ("", None));
        assert!(other.systemd_cgroup && !other.no_pivot_root && !other.no_new_keyring);
    }

    #[test]
    fn options_are_of_one_type_with_or_without_a_path_before_it() {
        let container = stored("io.containerd.runc.v2", None);
        for url in [
            "containerd.runc.v1.Options",
            "/containerd.runc.v1.Options",
            "a.b/containerd.runc.v1.Options",
        ] {
            let options = Any { type_url: url.to_owned(), ..crun() };
            assert_eq!(runtime(&container, &request(Some(options))).unwrap().program, "crun");
        }
        for url in
            ["", "containerd.linux.runc.CreateOptions", "runtimeoptions.v1.Options", "Options"]
        {
            let options = Any { type_url: url.to_owned(), ..crun() };
            let (code, text) = message(&container, &request(Some(options.clone())));
            assert!(code == Code::InvalidArgument && text.starts_with("options: "), "{text}");
            assert!(text.contains("containerd.runc.v1.Options"), "{text}");
            let container = stored("io.containerd.runc.v2", Some(options));
            let (_, text) = message(&container, &request(None));
            assert!(text.starts_with("container.runtime.options: "), "{text}");
        }
        let broken = Any { value: vec![0xff], ..crun() };
        assert_eq!(message(&container, &request(Some(broken))).0, Code::InvalidArgument);
    }

    #[test]
    fn what_cannot_be_used_is_refused_and_the_rest_is_not() {
        let container = stored("io.containerd.runc.v2", None);
        let of = |options| runtime(&container, &request(Some(given(&options))));
        let named = |binary_name: &str| Options {
            binary_name: binary_name.to_owned(),
            ..Options::default()
        };
        for bad in ["./crun", "bin/crun", "cr\0un", "/a/../crun"] {
            let text = of(named(bad)).unwrap_err().message().to_owned();
            assert!(text.starts_with("options.binary_name: "), "{text}");
        }
        assert_eq!(of(named("/usr/bin/crun")).unwrap().program, "/usr/bin/crun");
        let relative = Options { root: "r".to_owned(), ..Options::default() };
        assert!(of(relative).is_err());
        let relative = Options { criu_image_path: "image".to_owned(), ..Options::default() };
        let text = of(relative).unwrap_err().message().to_owned();
        assert!(text.starts_with("options.criu_image_path: "), "{text}");
        #[allow(deprecated, reason = "clients of 1.6 send it")]
        let taken = Options {
            shim_cgroup: "/shims".to_owned(),
            io_uid: 1,
            io_gid: 2,
            criu_path: "/usr/sbin/criu".to_owned(),
            no_new_keyring: true,
            no_pivot_root: true,
            ..Options::default()
        };
        let runtime = of(taken).unwrap();
        assert_eq!(runtime.pipe_owner, PipeOwner { uid: 1, gid: 2 });
        assert!(runtime.no_new_keyring && runtime.no_pivot_root && !runtime.systemd_cgroup);
    }
}
