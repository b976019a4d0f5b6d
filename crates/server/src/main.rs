//! gantryd: a gRPC-only container runtime service.

mod authority;
mod bundle;
mod cgroup;
mod checkpoint;
mod config;
mod domain;
mod events;
#[cfg(test)]
mod fuzzed;
mod listen;
mod net_dev;
mod oci;
mod rpc;
mod shim_link;
mod state_dir;
mod supervisor;
mod sys;

use std::{error::Error, fs, process::ExitCode, sync::Arc, time::Duration};

use authority::LocalAuthority;
use config::{Command, Config, LogFormat};
use events::EventLog;
use gantry_api::types::api_server::ApiServer;
use gantry_failpoints::{Point, reach};
use listen::Listener;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rpc::{Api, PendingSupervisor};
use state_dir::StateDir;
use supervisor::{Services, Settings, Supervisor};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    time::timeout,
};
use tokio_stream::{StreamExt as _, wrappers::UnixListenerStream};
use tonic::transport::Server;
use tracing_subscriber::EnvFilter;

/// Larger messages are refused before they are looked at. It is well above the limits of the
/// single fields, so that a field that is too large is named.
const MAX_MESSAGE: usize = 64 << 20;

/// How long launches under way may take once the server is to stop: a daemon waits 3 s.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// How long connections may take to end after that.
const CLOSE_DEADLINE: Duration = Duration::from_millis(500);

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

/// Serves until a signal says stop. Health is answered at once, everything else once the
/// containers of an earlier server are known.
async fn serve(config: Config, state: StateDir, listener: Listener) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let Listener { socket, path } = listener;
    let (stopping, stop_streams) = watch::channel(false);
    let (close, closed) = oneshot::channel::<()>();
    let pending = PendingSupervisor::default();

    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ApiServer<Api>>().await;
    let api = Api::new(Arc::clone(&pending), stop_streams);
    let server = Server::builder()
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(ApiServer::new(api).max_decoding_message_size(MAX_MESSAGE))
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(UnixListener::from_std(socket)?)
                .map(|accepted| accepted.map(LocalAuthority::new)),
            async {
                // Also when the sender is gone.
                let _ = closed.await;
            },
        );
    let server = tokio::spawn(server);

    let supervisor = Supervisor::start(services(&config, state)?).await?;
    if pending.set(supervisor.clone()).is_err() {
        unreachable!("the supervisor is set here only");
    }
    tracing::info!(listen = %config.listen.display(), version = env!("CARGO_PKG_VERSION"), "ready");
    // Nobody listens where there is no service manager.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; containers live on");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    if timeout(DRAIN_DEADLINE, supervisor.drain()).await.is_err() {
        tracing::warn!("some launches are given up");
    }
    stopping.send_replace(true);
    // The server may have ended by itself.
    let _ = close.send(());
    if timeout(CLOSE_DEADLINE, server).await.is_err() {
        tracing::debug!("some connections are cut");
    }
    if let Some(path) = path {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn services(config: &Config, state: StateDir) -> Result<Services, Box<dyn Error>> {
    let (events, recovery) = EventLog::open(state.root(), config.retain_count)?;
    if !recovery.is_clean() {
        tracing::error!(?recovery, "the event journal was damaged");
    }
    let reaper = sys::Reaper::start()?;
    let shim =
        shim_link::ShimProgram { path: config.shim_binary.clone(), name: config.shim_name.clone() };
    let shims = supervisor::Shims::new(shim, reaper.clone(), state.new_process_dirs());
    let hierarchies = Arc::new(cgroup::Hierarchies::discover()?);
    Ok(Services {
        settings: Settings {
            default_runtime: config.runtime.clone(),
            default_runtime_args: config.runtime_args.clone(),
            start_timeout: config.start_timeout,
            linger: config.linger,
            on_shim_death: config.on_shim_death,
        },
        state,
        events,
        runtimes: oci::Runtimes { reaper, deadline: config.runtime_timeout },
        shims: Arc::new(shims),
        moves: cgroup::Moves::new(Arc::clone(&hierarchies)),
        hierarchies,
        lives: supervisor::Lives::default(),
    })
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(gantry_api::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
