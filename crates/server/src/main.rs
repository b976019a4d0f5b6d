//! gantryd: a gRPC-only container runtime service.

mod authority;
mod bundle;
mod cgroup;
mod checkpoint;
mod config;
mod disk;
mod domain;
mod events;
#[cfg(test)]
mod fuzzed;
mod listen;
mod net_dev;
mod oci;
mod rpc;
mod serve;
mod shim_link;
mod state_dir;
mod supervisor;
mod sys;

use std::{error::Error, process::ExitCode};

use config::{Command, Config, LogFormat};
use gantry_failpoints::{Point, reach};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serve::serve;
use state_dir::StateDir;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let config = match Command::parse(std::env::args_os()) {
        Ok(Command::Serve(config)) => *config,
        Ok(Command::Version) => {
            println!("gantryd version {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Ok(Command::Help) => {
            print!("{}", config::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("gantryd: {error}");
            return ExitCode::from(2);
        }
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &*error, "gantryd ends");
            eprintln!("gantryd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> Result<(), Box<dyn Error>> {
    start_logging(&config)?;
    for flag in &config.ignored {
        tracing::warn!(flag, "a flag that is not known is ignored");
    }
    raise_file_limit();
    let state = StateDir::open(&config.state_dir)?;
    reach(Point::ServerStateOpened);
    let listener = listen::listen(&config.listen)?;
    reach(Point::ServerListening);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve(config, state, listener))
}

fn start_logging(config: &Config) -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_new(&config.log_level)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// A container takes a few descriptors; the soft limit is often 1024.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
