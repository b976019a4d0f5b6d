//! gantryd: a gRPC-only container runtime service. The program as a library: configuration, the
//! socket, and the wiring of the API surfaces to the supervisor.

// A write to standard output or error can fail, or wait for ever, and these panic: see `logging`.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test fails by panicking"))]

mod accept;
mod access;
mod config;
mod connection;
mod listen;
mod logging;
mod measures;
mod metadata;
mod oci_hook;
mod readiness;
mod reload;
mod rpc;
mod serve;
mod services;
mod telemetry;
#[doc(hidden)]
pub mod untrusted;
mod watchdog;

use std::{io, process::ExitCode};

use access::Access;
use config::{Command, Config};
use gantry_failpoints::{Point, reach};
use gantry_kernel::{keep_memory_small, raise_file_limit, reset_signals};
use gantry_supervisor::StateDir;
use logging::{Log, say};
use serve::{ServeError, serve};
use telemetry::Telemetry;
use tokio::runtime::Builder;

/// Threads that only copy bytes and answer health; handlers run on others.
const CONNECTION_THREADS: usize = 2;

/// More threads than there may be processors: they read and write the kernel's files of cgroups and processes, and
/// some of these take long. Nothing on these threads waits for a disk.
const SUPERVISOR_THREADS: usize = 8;

/// The program: reads the command line, and serves until a signal says stop.
pub fn run() -> ExitCode {
    reset_signals();
    match Command::parse(std::env::args_os()) {
        Ok(Command::Serve(config)) => serve_with(*config),
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::OciHook(words)) => oci_hook::run(words),
        Err(error) => {
            say(io::stderr(), &format!("gantryd: {error}\n"));
            ExitCode::from(2)
        }
    }
}

fn print(text: &str) -> ExitCode {
    if say(io::stdout(), text) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn serve_with(config: Config) -> ExitCode {
    let telemetry = Telemetry::new(&config);
    let tracer = telemetry.as_ref().map(Telemetry::tracer);
    let log = match Log::start(&config.log_level, config.log_format, tracer) {
        Ok(log) => log,
        Err(error) => {
            say(io::stderr(), &format!("gantryd: log_level: {error}\n"));
            return ExitCode::from(2);
        }
    };
    let result = start(config, &log, telemetry);
    if let Err(error) = &result {
        log.fatal(&**error);
    }
    log.flush();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn start(config: Config, log: &Log, telemetry: Option<Telemetry>) -> Result<(), ServeError> {
    for flag in &config.ignored {
        tracing::warn!(flag, "a flag that is not known is ignored");
    }
    if !config.ignored_keys.is_empty() {
        let keys = config.ignored_keys.join(", ");
        tracing::warn!(keys, "these keys of the configuration file have no meaning here");
    }
    if let Err(error) = raise_file_limit() {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    keep_memory_small()?;
    let mut listeners = listen::passed_sockets()?;
    let passed: Vec<_> = listeners.iter().map(|listener| &*listener.path).collect();
    let sockets = config.sockets(&passed);
    for socket in &sockets {
        // First, as the state may be in the socket's directory (as with containerd), which other users pass through.
        listen::make_directory(&socket.path)?;
    }
    let state = StateDir::open(&config.state_dir)?;
    reach(Point::ServerStateOpened);
    listeners.extend(listen::listen(&sockets)?);
    reach(Point::ServerListening);
    let sockets: Vec<_> = listeners.iter().map(|listener| listener.path.clone()).collect();
    config.access.warn_of_open(&sockets);
    let telemetry = telemetry.map(Telemetry::start).transpose()?;
    let connections = Builder::new_multi_thread()
        .thread_name("connections")
        .worker_threads(CONNECTION_THREADS)
        .enable_all()
        .build()?;
    let supervisor = Builder::new_multi_thread()
        .thread_name("supervisor")
        .worker_threads(SUPERVISOR_THREADS)
        .enable_all()
        .build()?;
    let serving = async {
        let access = Access::new(config.access.clone());
        reload::on_hangup(config.clone(), log.clone(), access.clone(), sockets)?;
        let to = telemetry.as_ref();
        let to = to.map(|sending| (sending.collector().clone(), sending.runtime().clone()));
        serve(config, state, listeners, access, supervisor.handle().clone(), to).await
    };
    let served = connections.block_on(serving);
    // Does not wait for a thread that a dead file system blocks.
    supervisor.shutdown_background();
    connections.shutdown_background();
    if let Some(telemetry) = telemetry {
        telemetry.finish();
    }
    served
}
