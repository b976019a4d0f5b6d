//! Calls runc-compatible runtimes: arguments, deadlines, and their messages as errors.

mod call;
mod environment;
mod error;
mod in_memory;
mod measures;
mod output;
mod program;
mod record;
mod root;
mod stale_mount;
mod state;
mod verb;
mod words;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use call::Call;
pub use environment::{BadVariable, CRIU_CONFIG_VARIABLE, Environment, RootVariables, Variable};
pub use error::OciError;
use gantry_disk::OwnFiles;
use gantry_domain::{ContainerId, ProcessSpec};
use gantry_kernel::Reaper;
pub use in_memory::InMemory;
pub use measures::{MeasuredCalls, Measuring, Outcome, RuntimeCalls};
pub use record::RuntimeRecord;
use serde_json::{Value, json};
pub use state::{Keeping, RuntimeState, is_same_directory};
use tracing::Span;
pub use verb::Verb;

use crate::step;

/// Calls runtimes. One for the whole server.
#[derive(Clone)]
pub struct Runtimes {
    /// Waits for runtimes.
    pub reaper: Reaper,
    /// For every call but those that start a process, which the shim makes.
    pub deadline: Duration,
    /// Of every call, those of the shim too.
    pub environment: Environment,
    /// What is executed in place of a runtime's file.
    pub in_memory: InMemory,
    /// Opens the bundles that runtimes work in.
    pub files: OwnFiles,
    /// How long the calls take; whoever has a shim call a runtime adds that.
    pub calls: Arc<RuntimeCalls>,
}

/// A runtime that was found, with the arguments that go before every sub-command.
#[derive(Debug, Clone)]
pub struct OciRuntime {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    /// As they were when the runtime made the container.
    variables: RootVariables,
    /// The container's creator has named the runtime, not the server's configuration.
    by_caller: bool,
    /// The working directory of its calls.
    bundle: Option<PathBuf>,
}

/// Where a runtime call leaves and finds its files: the process's directory.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// The directory.
    pub dir: &'a Path,
    /// Where the runtime is to hand over the terminal, if there is one.
    pub console: Option<&'a Path>,
}

/// How a container's first process is started.
#[derive(Debug, Clone)]
pub enum Start {
    /// Create it and start it in one call.
    Run,
    /// Create it; [`Runtimes::start`] follows.
    Create,
    /// From a checkpoint's image.
    Restore {
        /// Of the runtime's `restore`.
        options: Vec<String>,
    },
}

impl Start {
    /// The sub-command.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Run => Verb::Run,
            Self::Create => Verb::Create,
            Self::Restore { .. } => Verb::Restore,
        }
    }
}

/// What makes a container.
#[derive(Debug, Clone, Copy)]
pub struct Creation<'a> {
    /// Its name for the runtime.
    pub id: &'a ContainerId,
    /// Its bundle.
    pub bundle: &'a Path,
    /// With `--no-pivot`.
    pub no_pivot_root: bool,
    /// With `--no-new-keyring`.
    pub no_new_keyring: bool,
    /// How its first process is started.
    pub start: &'a Start,
}

impl OciRuntime {
    /// A runtime that is not there at the moment: every call of it fails.
    pub fn missing(name: &str, args: &[String]) -> Self {
        let (name, args) = (name.to_owned(), args.to_vec());
        let variables = RootVariables::default();
        let program = PathBuf::from(&name);
        Self { program, name, args, variables, by_caller: false, bundle: None }
    }

    /// The runtime that a container was made with, whether the program is there at the moment or not.
    pub fn from_record(
        made_with: &RuntimeRecord,
        by_caller: bool,
        environment: &Environment,
    ) -> Self {
        let RuntimeRecord { name, program, args, variables } = made_with.clone();
        let variables = variables.unwrap_or_else(|| environment.root_variables());
        Self { name, program, args, variables, by_caller, bundle: None }
    }

    /// For a container whose bundle is the server's own: its runtime works in there, as with containerd. Programs around
    /// a runtime read config.json from it. A bundle of the caller's may be on a file system that does not answer.
    #[must_use]
    pub fn in_bundle(self, bundle: Option<&Path>) -> Self {
        Self { bundle: bundle.map(Path::to_owned), ..self }
    }

    /// The working directory of its calls; `None` leaves the caller's.
    pub fn bundle(&self) -> Option<&Path> {
        self.bundle.as_deref()
    }

    /// What a later server finds the runtime by, whatever its working directory and PATH are.
    pub fn to_record(&self) -> RuntimeRecord {
        let program = std::path::absolute(&self.program).unwrap_or_else(|_| self.program.clone());
        let (name, args) = (self.name.clone(), self.args.clone());
        RuntimeRecord { name, program, args, variables: Some(self.variables.clone()) }
    }

    /// A call of it, as a step of a trace.
    pub fn step(&self, verb: Verb) -> Span {
        let span = step("runtime");
        if !span.is_none() {
            span.record("otel.name", format!("runtime {verb}"));
            span.record("gantry.runtime.name", &self.name);
            span.record("gantry.runtime.command", verb.name());
        }
        span
    }

    /// The name or path that the caller gave.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The variables that decide where it keeps the container.
    pub fn variables(&self) -> &RootVariables {
        &self.variables
    }

    /// Its absolute path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The command line that makes a container, for the shim.
    pub fn create_argv(&self, creation: Creation<'_>, files: Files<'_>) -> Vec<String> {
        let mut argv = self.launch_argv(creation.start.verb(), files);
        match creation.start {
            Start::Run => argv.push("--detach".to_owned()),
            Start::Create => {}
            Start::Restore { options } => {
                argv.push("--detach".to_owned());
                argv.extend(options.iter().cloned());
            }
        }
        argv.extend(["--bundle".to_owned(), text(creation.bundle)]);
        self.push_files(&mut argv, files);
        if creation.no_pivot_root {
            argv.push("--no-pivot".to_owned());
        }
        if creation.no_new_keyring {
            argv.push("--no-new-keyring".to_owned());
        }
        argv.push(creation.id.to_string());
        argv
    }

    /// The command line that starts a further process, for the shim.
    pub fn exec_argv(&self, id: &ContainerId, process: &Path, files: Files<'_>) -> Vec<String> {
        let mut argv = self.launch_argv(Verb::Exec, files);
        argv.push("--detach".to_owned());
        argv.extend(["--process".to_owned(), text(process)]);
        self.push_files(&mut argv, files);
        argv.push(id.to_string());
        argv
    }

    fn launch_argv(&self, verb: Verb, files: Files<'_>) -> Vec<String> {
        let log = files.dir.join(gantry_shim_proto::LOG_FILE);
        let mut argv = vec![text(&self.program)];
        argv.extend(self.args.iter().cloned());
        argv.extend(["--log".to_owned(), text(&log), "--log-format".to_owned(), "json".to_owned()]);
        argv.push(verb.name().to_owned());
        argv
    }

    fn push_files(&self, argv: &mut Vec<String>, files: Files<'_>) {
        argv.extend(["--pid-file".to_owned(), text(&files.dir.join(gantry_shim_proto::PID_FILE))]);
        if let Some(console) = files.console {
            argv.extend(["--console-socket".to_owned(), text(console)]);
        }
    }
}

/// Paths come from the API as strings, or are made here from such.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Runtimes {
    /// Starts a container that was created.
    pub async fn start(&self, runtime: &OciRuntime, id: &ContainerId) -> Result<(), OciError> {
        self.call(runtime, Call::new(Verb::Start, &[id.as_str()])).await.map(drop)
    }

    /// Removes a container, and kills it if it still runs. The directories in `hidden`
    /// appear empty to the runtime.
    pub async fn delete(
        &self,
        runtime: &OciRuntime,
        id: &ContainerId,
        hidden: &[&Path],
    ) -> Result<(), OciError> {
        let args = ["--force", id.as_str()];
        let call = Call { hidden, ..Call::new(Verb::Delete, &args) };
        let mut result = self.call(runtime, call).await;
        if stale_mount::remove(&runtime.root().join(id.as_str())) {
            result = self.call(runtime, call).await;
        }
        result.map(drop)
    }

    /// What the runtime can do: JSON, see features.md of the OCI runtime specification.
    pub async fn features(&self, runtime: &OciRuntime) -> Result<Vec<u8>, OciError> {
        self.call(runtime, Call::new(Verb::Features, &[])).await
    }

    /// Freezes all processes of a container.
    pub async fn pause(&self, runtime: &OciRuntime, id: &ContainerId) -> Result<(), OciError> {
        self.call(runtime, Call::new(Verb::Pause, &[id.as_str()])).await.map(drop)
    }

    /// Thaws them.
    pub async fn resume(&self, runtime: &OciRuntime, id: &ContainerId) -> Result<(), OciError> {
        self.call(runtime, Call::new(Verb::Resume, &[id.as_str()])).await.map(drop)
    }

    /// Changes limits to those of a JSON `LinuxResources`. What is not given stays as it is.
    pub async fn update(
        &self,
        runtime: &OciRuntime,
        id: &ContainerId,
        resources: &str,
    ) -> Result<(), OciError> {
        let args = ["--resources", "-", id.as_str()];
        let call = Call { input: Some(resources.as_bytes()), ..Call::new(Verb::Update, &args) };
        self.call(runtime, call).await.map(drop)
    }

    /// Runs `checkpoint` with these options, and more settings for CRIU in a file.
    pub async fn checkpoint(
        &self,
        runtime: &OciRuntime,
        id: &ContainerId,
        options: &[String],
        criu_config: &Path,
    ) -> Result<(), OciError> {
        let mut args: Vec<&str> = options.iter().map(String::as_str).collect();
        args.push(id.as_str());
        let env = Some((CRIU_CONFIG_VARIABLE, criu_config));
        self.call(runtime, Call { env, ..Call::new(Verb::Checkpoint, &args) }).await.map(drop)
    }
}

/// The `process` object of the spec for `exec --process`.
///
/// Capabilities go into the bounding, effective and permitted sets. Inheritable ones would be
/// handed to any program with file capabilities (CVE-2022-24769). Runtimes of before version
/// 1.0.0-rc5 of the spec take one list for all sets.
pub fn process_json(spec: &ProcessSpec, capability_list: bool) -> Value {
    if let Some(given) = spec.oci.as_deref().and_then(|given| serde_json::from_str(given).ok()) {
        return given;
    }
    let capabilities = if capability_list {
        json!(spec.capabilities)
    } else {
        json!({
            "bounding": spec.capabilities,
            "effective": spec.capabilities,
            "permitted": spec.capabilities,
        })
    };
    let mut process = json!({
        "terminal": spec.terminal,
        "user": {
            "uid": spec.user.uid,
            "gid": spec.user.gid,
            "additionalGids": spec.user.additional_gids,
        },
        "args": spec.args,
        "env": spec.env,
        "cwd": if spec.cwd.is_empty() { "/" } else { &spec.cwd },
        "capabilities": capabilities,
        "noNewPrivileges": spec.no_new_privileges,
    });
    if let Some(size) = spec.console_size {
        process["consoleSize"] = json!({ "width": size.width, "height": size.height });
    }
    if !spec.rlimits.is_empty() {
        let limits = spec.rlimits.iter();
        process["rlimits"] = limits
            .map(|limit| json!({ "type": limit.kind, "soft": limit.soft, "hard": limit.hard }))
            .collect();
    }
    for (key, value) in
        [("apparmorProfile", &spec.apparmor_profile), ("selinuxLabel", &spec.selinux_label)]
    {
        if !value.is_empty() {
            process[key] = json!(value);
        }
    }
    process
}
