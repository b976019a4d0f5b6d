//! Checks periodically whether the server is healthy, through the standard gRPC health service.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    net::UnixStream,
    time::{self, MissedTickBehavior},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    connection::{Connection, Limits},
    status,
};

const INTERVAL: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_secs(3);
/// After so many failures in a row the server is killed.
const FAILURES: u32 = 3;

#[derive(Debug)]
pub(super) struct Health {
    socket: PathBuf,
    connection: Option<Connection>,
}

impl Health {
    pub(super) fn new(socket: &Path) -> Health {
        Health { socket: socket.to_owned(), connection: None }
    }

    /// Returns at the first good answer of a server that is being started.
    pub(super) async fn until_serving(&mut self) {
        // Another process: the connection to an earlier one is of no use.
        self.connection = None;
        loop {
            if let Some(connection) = self.connect(Duration::MAX).await {
                self.connection = Some(connection);
            }
            if self.is_serving().await {
                return;
            }
            time::sleep(INTERVAL).await;
        }
    }

    /// Returns when the server has failed to answer several times in a row.
    pub(super) async fn until_failed(&mut self) {
        let mut interval = time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = 0;
        while failures < FAILURES {
            interval.tick().await;
            failures = if self.is_serving().await { 0 } else { failures + 1 };
        }
    }

    async fn connect(&self, patience: Duration) -> Option<Connection> {
        let socket = self.socket.clone();
        let dial = move || UnixStream::connect(socket.clone());
        let limits = Limits { patience, call_timeout: None };
        Connection::open("connect", dial, limits).await.ok()
    }

    async fn is_serving(&mut self) -> bool {
        if self.connection.is_none() {
            self.connection = self.connect(Duration::ZERO).await;
        }
        let Some(connection) = &self.connection else { return false };
        let mut client = HealthClient::new(connection.channel());
        let call = async move { client.check(HealthCheckRequest::default()).await };
        match time::timeout(DEADLINE, call).await {
            Ok(Ok(answer)) => answer.get_ref().status == i32::from(ServingStatus::Serving),
            Ok(Err(status)) => {
                let error = status::error("ask for the server's health", status, None);
                tracing::warn!("the server's health check failed: {error:#}");
                false
            }
            Err(_) => {
                tracing::warn!("the server's health check had no answer within {DEADLINE:?}");
                false
            }
        }
    }
}
