//! The log: lines on stderr.
//!
//! Whoever logs hands a line over and goes on. A thread of its own writes it, so that a pipe that
//! nobody reads, or a disk that is full or frozen, costs lines and nothing else; a later line says
//! how many.

mod form;
mod queue;
mod writer;

use std::{
    io::{self, IsTerminal, Write},
    sync::Arc,
    thread,
    time::Duration,
};

use opentelemetry_sdk::trace::SdkTracer;
use queue::Queue;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, ParseError, filter_fn},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};
use writer::{Stderr, Writer};

use crate::{config::LogFormat, telemetry};

/// How long the program waits at its end for lines that are not written yet.
const FLUSH_DEADLINE: Duration = Duration::from_millis(250);

/// The log of the program.
#[derive(Clone)]
pub(crate) struct Log {
    queue: Arc<Queue>,
    format: LogFormat,
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Log {
    /// Starts to log what `filter`, a level or a list of directives, lets through. From here on a
    /// panic is a line of the log, and ends the program.
    ///
    /// Spans, which are for telemetry, are made if there is a `tracer`; no line shows them.
    pub(crate) fn start(
        filter: &str,
        format: LogFormat,
        tracer: Option<SdkTracer>,
    ) -> Result<Self, ParseError> {
        let (filter, handle) = reload::Layer::new(EnvFilter::try_new(filter)?);
        let queue = Arc::new(Queue::default());
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(Arc::clone(&queue))
            // Such errors would be written to stderr by the thread that logs, which panics if that fails.
            .log_internal_errors(false);
        let lines = match format {
            LogFormat::Text => {
                lines.with_ansi(is_colourful()).fmt_fields(form::text_fields()).boxed()
            }
            LogFormat::Json => lines.with_ansi(false).event_format(form::Json).boxed(),
        };
        // The filter's bound stays in force: what is below it costs one comparison.
        let is_line = filter_fn(|metadata| !metadata.is_span());
        let is_line = is_line.with_max_level_hint(LevelFilter::TRACE);
        let mut layers = vec![lines.with_filter(filter.and(is_line)).boxed()];
        layers.extend(tracer.map(|tracer| telemetry::layer(tracer).boxed()));
        // Fails if there is one already, as there is in tests.
        let _ = tracing_subscriber::registry().with(layers).try_init();
        let log = Self { queue, format, filter: handle };
        log.start_thread();
        log.take_panics();
        Ok(log)
    }

    /// Changes what is logged.
    pub(crate) fn set_filter(&self, filter: &str) -> Result<(), ParseError> {
        let filter = EnvFilter::try_new(filter)?;
        // Fails where nothing is logged at all.
        let _ = self.filter.reload(filter);
        Ok(())
    }

    /// Reports why the program ends: as a line of the log, or as plain text if errors are not logged.
    pub(crate) fn fatal(&self, error: &(dyn std::error::Error + 'static)) {
        if tracing::enabled!(tracing::Level::ERROR) {
            tracing::error!(error, "gantryd ends");
        } else {
            say(io::stderr(), &format!("gantryd: {error}\n"));
        }
    }

    /// Waits until all lines are written, or it is clear that they will not be.
    pub(crate) fn flush(&self) {
        if self.queue.has_writer() {
            self.queue.wait_until_written(FLUSH_DEADLINE);
        } else if let Some((lines, dropped)) = self.queue.take_now() {
            Writer::new(Stderr::without_waiting(), self.format).write(&lines, dropped);
        }
    }

    /// Without a thread, lines wait until the program ends: it cannot go on without threads.
    fn start_thread(&self) {
        let queue = Arc::clone(&self.queue);
        let format = self.format;
        let thread = thread::Builder::new().name("log".to_owned());
        let started = thread.spawn(move || Writer::new(Stderr::waiting(), format).run(&queue));
        match started {
            Ok(_) => self.queue.set_has_writer(),
            Err(error) => tracing::error!(%error, "there is no thread that writes the log"),
        }
    }

    /// Ends the server on any panic, even a caught one: a dead task could lose a message, and so an exit
    /// event. A restart by the service manager loses nothing, since containers keep running and all state is
    /// on disk.
    fn take_panics(&self) {
        let log = self.clone();
        std::panic::set_hook(Box::new(move |panic| {
            tracing::error!(%panic, "a bug: gantryd ends");
            log.flush();
            std::process::abort();
        }));
    }
}

/// Prints something for whoever has started the program by hand; returns whether that succeeded. Everything
/// else goes through the log.
pub(crate) fn say(mut stream: impl Write, text: &str) -> bool {
    stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).is_ok()
}

/// Colours are for terminals only, and can be turned off: see no-color.org.
fn is_colourful() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
