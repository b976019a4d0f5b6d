//! Resource usage of a container, once or at an interval.

use std::time::Duration;

use gantry_api::types;
use tokio::time::{self, Interval, MissedTickBehavior};

use crate::{connection::Operation, container::Container, error::Result};

impl Container {
    /// Its resource usage now.
    pub async fn stats(&self) -> Result<types::StatsResponse> {
        let request = types::StatsRequest { id: self.id().to_owned() };
        let operation = Operation::new(format!("read the usage of container {}", self.id()));
        let mut api = self.api();
        operation.run(async move { api.stats(request).await }).await
    }

    /// Its resource usage at an interval, which must not be zero.
    pub fn stats_stream(&self, interval: Duration) -> StatsStream {
        let mut interval = time::interval(interval);
        // A reader that was slow wants the next reading in time, not the missed ones in a burst.
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        StatsStream { container: self.client().container(self.id()), interval }
    }
}

/// Readings at an interval, the first one at once.
#[derive(Debug)]
pub struct StatsStream {
    container: Container,
    interval: Interval,
}

impl StatsStream {
    /// The next reading; `None` once the container has ended.
    pub async fn next(&mut self) -> Result<Option<types::StatsResponse>> {
        self.interval.tick().await;
        match self.container.stats().await {
            Ok(stats) => Ok(Some(stats)),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
