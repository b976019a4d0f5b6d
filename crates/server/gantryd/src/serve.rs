//! Wires the services to the socket, and serves until a signal says stop.

use std::{error::Error, io, sync::Arc, time::Duration};

use gantry_api::{
    types::api_server::ApiServer,
    v1::{
        container_service_server::ContainerServiceServer,
        server_service_server::ServerServiceServer,
    },
};
use gantry_runtime::Environment;
use gantry_supervisor::{Settings, ShimProgram, StateDir, Supervisor};
use sd_notify::NotifyState;
use tokio::{
    net::UnixListener,
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
    sync::SetOnce,
    time::timeout,
};
use tonic::{service::Routes, transport};
use tower::Layer;

use crate::{
    accept::incoming,
    access::Access,
    config::Config,
    connection::Connections,
    listen::{Listener, SocketFile},
    measures::{Exported, Exporter, Measures},
    metadata,
    readiness::Programs,
    rpc::{
        AdmissionLayer, Aside, Calls, CallsLayer, EndlessLayer, Health, PermissionLayer,
        TraceLayer, paths,
    },
    services::{
        PendingMetadata, PendingSupervisor,
        containerd::Surface,
        gantry::{Containers, Server},
        types::Api,
    },
    telemetry::Collector,
    watchdog,
};

/// The descriptors of all that is served.
const CONTRACTS: [&[u8]; 3] = [
    gantry_api::FILE_DESCRIPTOR_SET,
    gantry_api::v1::FILE_DESCRIPTOR_SET,
    gantry_api::containerd::FILE_DESCRIPTOR_SET,
];

/// What reflection shows, beside itself.
pub(crate) const DESCRIPTORS: [&[u8]; 5] = [
    CONTRACTS[0],
    CONTRACTS[1],
    CONTRACTS[2],
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    // What the details of errors are made of.
    tonic_types::pb::FILE_DESCRIPTOR_SET,
];

/// Larger messages are refused before they are parsed. It is well above the limits of the
/// single fields, so that a field that is too large is named.
const MAX_MESSAGE: usize = 64 << 20;

/// Requests under way of one connection. A daemon has one for everything, and starts all its
/// containers at once when it boots; with the default of 200 its health checks would wait behind them.
const MAX_STREAMS: u32 = 4096;

/// Headers of one request, where Go's and C's clients put a few hundred bytes.
const MAX_HEADERS: u32 = 16 << 10;

/// Bytes that a connection may send before they are read, over all its requests and for one. Handlers
/// read at once, so that this only bounds what is not counted yet, and slows nothing down.
const WINDOW: u32 = 1 << 20;

/// How long calls under way may take once the server is to stop: a daemon waits 3 s for its exit.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// How long the last writes may take to reach the disk after that.
const CLOSE_DEADLINE: Duration = Duration::from_millis(500);

/// What ends the server.
pub(crate) type ServeError = Box<dyn Error + Send + Sync>;

/// Serves until a signal says stop. Health is answered at once, everything else once the
/// containers of an earlier server are known. Connections are driven by the runtime that this is
/// called on; whatever may wait runs on `supervisors`.
pub(crate) async fn serve(
    config: Config,
    state: StateDir,
    listeners: Vec<Listener>,
    access: Access,
    supervisors: Handle,
    telemetry: Option<(Collector, Handle)>,
) -> Result<(), ServeError> {
    let mut stop = StopSignals::catch()?;
    let mut sockets = Vec::new();
    let mut files = Vec::new();
    let listen: Vec<_> = listeners.iter().map(|listener| listener.path.clone()).collect();
    for Listener { socket, path, file } in listeners {
        sockets.push((UnixListener::from_std(socket)?, path));
        files.extend(file);
    }
    let connections = Connections::default();
    let pending = PendingSupervisor::default();

    let pending_metadata = PendingMetadata::default();

    let api = ApiServer::new(Api::new(Arc::clone(&pending), connections.clone()));
    let admission = AdmissionLayer::new(&CONTRACTS)?;
    let api = admission.layer(api.max_decoding_message_size(MAX_MESSAGE));
    let containers = ContainerServiceServer::new(Containers(Arc::clone(&pending)));
    let surface = Surface::new(Arc::clone(&pending), Arc::clone(&pending_metadata), config.layers);
    let calls = Calls::new(paths());
    let measures = Measures::new(
        Arc::clone(&calls),
        connections.clone(),
        Arc::clone(&pending),
        Arc::clone(&pending_metadata),
        surface.clone(),
    );
    let exported =
        Exported { interval: config.otlp.interval, container_usage: config.otlp.container_usage };
    let exporter = telemetry.map(|(collector, thread)| {
        Exporter::start(measures.clone(), &collector, &thread, exported)
    });
    let server = Server { measures, supervisor: Arc::clone(&pending) };
    let server = admission.layer(ServerServiceServer::new(server));
    let mut routes = Routes::builder();
    routes
        .add_service(admission.layer(Health::service(Programs::new(&config)).await))
        .add_service(admission.layer(reflection().build_v1()?))
        .add_service(admission.layer(reflection().build_v1alpha()?))
        .add_service(Aside::new(api, supervisors.clone()))
        .add_service(Aside::new(admission.layer(containers), supervisors.clone()))
        .add_service(Aside::new(server, supervisors.clone()));
    surface.add_to(&mut routes, &admission, &supervisors);
    let server = transport::Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADERS)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .layer(CallsLayer::new(calls))
        .layer(TraceLayer { is_on: config.otlp.endpoint.is_some() })
        .layer(PermissionLayer::new(access))
        .layer(EndlessLayer::new(connections.clone()))
        .add_routes(routes.routes())
        .serve_with_incoming(incoming(sockets, &connections));
    let accepting = tokio::spawn(server);

    let root = config.root.clone();
    let take_over = async {
        let starting =
            supervisors.spawn(async move { Supervisor::start(settings(&config), state).await });
        set(&pending, starting.await??);
        Ok::<_, ServeError>(())
    };
    let open = async {
        set(&pending_metadata, metadata::open(root).await?);
        Ok::<_, ServeError>(())
    };
    let is_ready = tokio::select! {
        ready = async { tokio::try_join!(take_over, open) } => {
            ready.inspect_err(|_| connections.cut())?;
            true
        }
        () = stop.wait() => false,
    };
    if is_ready {
        tracing::info!(?listen, version = env!("CARGO_PKG_VERSION"), "ready");
        // Without a service manager this fails.
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        if let Some(supervisor) = pending.get() {
            tokio::spawn(watchdog::watch(supervisors.clone(), supervisor.clone()));
        }
        supervisors.spawn(surface.clone().keep());
        stop.wait().await;
    }

    tracing::info!("stopping; containers live on");
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    accepting.abort();
    // After this nobody can connect any more, not even clients that have just lost a connection.
    let _ = accepting.await;
    if let Some(supervisor) = pending.get().cloned() {
        let drained = supervisors.spawn(async move { supervisor.drain().await });
        if timeout(DRAIN_DEADLINE, async { tokio::join!(drained, connections.answered()) })
            .await
            .is_err()
        {
            tracing::warn!("the server stops although some calls are not answered");
        }
    }
    connections.cut();
    if let Some(exporter) = exporter {
        exporter.finish().await;
    }
    if let Some(metadata) = pending_metadata.get()
        && timeout(CLOSE_DEADLINE, metadata.close()).await.is_err()
    {
        tracing::warn!("the metadata cannot be closed; it is checked when it is opened again");
    }
    // All of them, even if one cannot be removed.
    let removed: Vec<_> = files.iter().map(SocketFile::remove).collect();
    removed.into_iter().collect::<io::Result<()>>()?;
    Ok(())
}

fn set<T>(pending: &SetOnce<T>, value: T) {
    if pending.set(value).is_err() {
        unreachable!("this is set here only");
    }
}

/// Signals that ask the server to stop.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn catch() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { terminate, interrupt })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        default_runtime: config.runtime.clone(),
        default_runtime_args: config.runtime_args.clone(),
        environment: Environment::of_server(&config.runtime_env),
        start_timeout: config.start_timeout,
        runtime_timeout: config.runtime_timeout,
        linger: config.linger,
        on_shim_death: config.on_shim_death,
        shim: ShimProgram { path: config.shim_binary.clone(), name: config.shim_name.clone() },
        retain_count: config.retain_count,
        images: metadata::checkpoints(&config.root),
        attach_buffer: config.attach_buffer,
        memory: config.memory,
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    let builder = tonic_reflection::server::Builder::configure();
    DESCRIPTORS
        .into_iter()
        .fold(builder, tonic_reflection::server::Builder::register_encoded_file_descriptor_set)
}
