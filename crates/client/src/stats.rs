//! Resource usage of a container, once or at an interval.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use gantry_api::types;
use tokio::time::{self, Interval, MissedTickBehavior};

use crate::{call::Operation, connection::Api, container::Container, error::Result};

impl Container {
    /// Its resource usage now.
    pub async fn stats(&self) -> Result<types::StatsResponse> {
        let request = types::StatsRequest { id: self.id().to_owned() };
        let operation = format!("read the usage of container {}", self.id());
        let read = |mut api: Api, request| async move { api.stats(request).await };
        self.connection().call(Operation::repeatable(operation), request, read).await
    }

    /// Its resource usage at an interval, which must not be zero.
    pub fn stats_stream(&self, interval: Duration) -> StatsStream {
        let mut interval = time::interval(interval);
        // A reader that was slow wants the next reading in time, not the missed ones in a burst.
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        StatsStream { container: self.clone(), interval, reading: None, ended: false }
    }
}

/// Readings at an interval, the first one at once; ends with the container.
#[derive(Debug)]
pub struct StatsStream {
    container: Container,
    interval: Interval,
    reading: Option<Reading>,
    ended: bool,
}

/// A call that is under way.
struct Reading(Pin<Box<dyn Future<Output = Result<types::StatsResponse>> + Send>>);

impl StatsStream {
    /// The next reading; `None` once the container has ended.
    ///
    /// Nothing is lost when the future is dropped before its end.
    pub async fn next(&mut self) -> Result<Option<types::StatsResponse>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await.transpose()
    }
}

impl Stream for StatsStream {
    type Item = Result<types::StatsResponse>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.reading.is_none() {
            ready!(self.interval.poll_tick(cx));
        }
        let this = &mut *self;
        let reading = this.reading.get_or_insert_with(|| {
            let container = this.container.clone();
            Reading(Box::pin(async move { container.stats().await }))
        });
        let result = ready!(reading.0.as_mut().poll(cx));
        self.reading = None;
        match result {
            Err(error) if error.is_gone() => {
                self.ended = true;
                Poll::Ready(None)
            }
            result => Poll::Ready(Some(result)),
        }
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reading")
    }
}
