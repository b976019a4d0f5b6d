//! gantry-daemon: serves the reference daemon over a unix socket.

#![forbid(unsafe_code)]

mod listen;

use std::{
    error::Error, fs, os::unix::net::UnixListener as Socket, process::ExitCode, time::Duration,
};

use clap::Parser;
use gantry_authority::LocalAuthority;
use gantry_daemon::{
    Daemon, Options,
    proto::{self, daemon_service_server::DaemonServiceServer},
};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time,
};
use tokio_stream::{StreamExt, wrappers::UnixListenerStream};
use tonic::transport::Server;
use tracing_subscriber::EnvFilter;

/// How long starts and stops under way may take once the daemon is to end.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// How long connections may take to end after that.
const CLOSE_DEADLINE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gantry-daemon: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_new(&options.log_level)?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let path = options.listen.clone();
    let socket = listen::listen(&path)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(serve(options, socket))?;
    Ok(fs::remove_file(&path)?)
}

/// Serves until a signal says stop. Containers live on.
async fn serve(options: Options, socket: Socket) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (close, closed) = oneshot::channel::<()>();

    let daemon = Daemon::open(options).await?;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<DaemonServiceServer<Daemon>>().await;
    let connections = UnixListenerStream::new(UnixListener::from_std(socket)?);
    let server = Server::builder()
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(DaemonServiceServer::new(daemon.clone()))
        .serve_with_incoming_shutdown(
            connections.map(|accepted| accepted.map(LocalAuthority::new)),
            async {
                // Also when the sender is gone.
                let _ = closed.await;
            },
        );
    let server = tokio::spawn(server);
    tracing::info!("ready");

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; containers live on");
    if time::timeout(DRAIN_DEADLINE, daemon.quiesce()).await.is_err() {
        tracing::warn!("the daemon ends although some starts or stops are not finished");
    }
    // The server may have ended by itself.
    let _ = close.send(());
    if time::timeout(CLOSE_DEADLINE, server).await.is_err() {
        tracing::debug!("some connections are cut");
    }
    Ok(())
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // What the details of errors are made of.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}
