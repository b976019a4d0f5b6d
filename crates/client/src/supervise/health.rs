//! Asks the server again and again whether it is well, through the standard gRPC health service.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{self, MissedTickBehavior};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::connection::{Connection, Operation};

const INTERVAL: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_secs(3);
/// So many failures in a row make a server that is to be killed.
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
            if let Ok(connection) = Connection::open(&self.socket, Duration::MAX).await {
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

    async fn is_serving(&mut self) -> bool {
        if self.connection.is_none() {
            self.connection = Connection::open(&self.socket, Duration::ZERO).await.ok();
        }
        let Some(connection) = &self.connection else { return false };
        let mut client = HealthClient::new(connection.channel());
        let call = async move { client.check(HealthCheckRequest::default()).await };
        let answer = Operation::new("ask for the server's health").within(DEADLINE).run(call).await;
        match answer {
            Ok(answer) => answer.status == i32::from(ServingStatus::Serving),
            Err(error) => {
                tracing::warn!(%error, "the server did not say that it is well");
                false
            }
        }
    }
}
