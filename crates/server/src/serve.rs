//! Wires the services to the socket, and serves until a signal says stop.

use std::{error::Error, fs, sync::Arc, time::Duration};

use gantry_api::types::api_server::ApiServer;
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    time::timeout,
};
use tokio_stream::{StreamExt as _, wrappers::UnixListenerStream};
use tonic::transport::Server;

use crate::{
    authority::LocalAuthority,
    cgroup::{Hierarchies, Moves},
    config::Config,
    disk::Disks,
    events::EventLog,
    listen::Listener,
    logging::Log,
    oci::{Environment, Runtimes},
    reload,
    rpc::{AdmissionLayer, Api, Peers, PendingSupervisor},
    shim_link::ShimProgram,
    state_dir::StateDir,
    supervisor::{Lives, Services, Settings, Shims, Supervisor, Turns},
    sys::Reaper,
};

/// Larger messages are refused before they are looked at. It is well above the limits of the
/// single fields, so that a field that is too large is named.
const MAX_MESSAGE: usize = 64 << 20;

/// Requests under way of one connection. A daemon has one for everything, and starts all its
/// containers at once when it boots; the default of 200 would have its health checks wait behind.
const MAX_STREAMS: u32 = 4096;

/// Headers of one request, where Go's and C's clients put a few hundred bytes.
const MAX_HEADERS: u32 = 16 << 10;

/// What a connection may send before anybody reads it, over all its requests and for one. Handlers
/// read at once, so that this is a bound for what is not counted yet, and no brake.
const WINDOW: u32 = 1 << 20;

/// How long launches under way may take once the server is to stop: a daemon waits 3 s.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// How long connections may take to end after that.
const CLOSE_DEADLINE: Duration = Duration::from_millis(500);

/// Serves until a signal says stop. Health is answered at once, everything else once the
/// containers of an earlier server are known.
pub(crate) async fn serve(
    config: Config,
    state: StateDir,
    listener: Listener,
    log: &Log,
) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    reload::on_hangup(config.clone(), log.clone())?;
    let Listener { socket, path } = listener;
    let (stopping, stop_streams) = watch::channel(false);
    let (close, closed) = oneshot::channel::<()>();
    let pending = PendingSupervisor::default();

    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ApiServer<Api>>().await;
    let api = Api::new(Arc::clone(&pending), stop_streams);
    let peers = Peers::default();
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADERS)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .layer(AdmissionLayer::new(gantry_api::FILE_DESCRIPTOR_SET)?)
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(ApiServer::new(api).max_decoding_message_size(MAX_MESSAGE))
        .serve_with_incoming_shutdown(
            UnixListenerStream::new(UnixListener::from_std(socket)?).map(move |accepted| {
                accepted.map(|stream| LocalAuthority::new(stream, peers.next()))
            }),
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
    let reaper = Reaper::start()?;
    let shim = ShimProgram { path: config.shim_binary.clone(), name: config.shim_name.clone() };
    let shims = Shims::new(shim, reaper.clone(), state.new_process_dirs());
    let hierarchies = Arc::new(Hierarchies::discover()?);
    Ok(Services {
        settings: Settings {
            default_runtime: config.runtime.clone(),
            default_runtime_args: config.runtime_args.clone(),
            start_timeout: config.start_timeout,
            linger: config.linger,
            on_shim_death: config.on_shim_death,
        },
        state,
        disks: Disks::new()?,
        events,
        runtimes: Runtimes {
            reaper,
            deadline: config.runtime_timeout,
            environment: Environment::of_server(&config.runtime_env),
        },
        shims: Arc::new(shims),
        moves: Moves::new(Arc::clone(&hierarchies)),
        hierarchies,
        lives: Lives::default(),
        turns: Turns::default(),
    })
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(gantry_api::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
