//! Steps of a trace: spans of `tracing`, which telemetry sends to a collector, and no line of the log shows.

use std::fmt::Display;

use futures_util::TryFutureExt;
use tracing::{Instrument, Span, field::Empty};

/// A step of the call under way; none outside of one, or without telemetry.
pub fn step(name: &'static str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    tracing::info_span!(
        "step",
        otel.name = name,
        otel.status_code = Empty,
        otel.status_description = Empty,
        container.id = Empty,
        gantry.namespace = Empty,
        gantry.runtime.name = Empty,
        gantry.runtime.command = Empty,
        process.pid = Empty,
        process.exit.code = Empty,
    )
}

/// Does something as a step, which has its error. The future holds the work once, where an async function would hold it
/// twice.
pub fn traced<T, E: Display>(
    span: Span,
    work: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    work.instrument(span.clone()).inspect_err(move |error| {
        if !span.is_none() {
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", error.to_string());
        }
    })
}
