//! What a line of the log looks like.
//!
//! Ids, paths and a runtime's messages are not trusted. In a line of text whatever could end the
//! line, or control a terminal, is written as an escape; in JSON no key comes twice.

use std::fmt::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::MakeExt,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{self, Writer},
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

use crate::config::LogFormat;

/// The fields of a line of text: the message, and then names with values.
pub(super) fn text_fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    let field = |writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        if field.name() != "message" {
            write!(writer, "{}=", field.name())?;
        }
        write!(Escaping(writer), "{value:?}")
    };
    format::debug_fn(field).delimited(" ")
}

/// Escapes what does not belong in a line.
struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(is_awkward) {
            match part.char_indices().next_back() {
                Some((plain, last)) if is_awkward(last) => {
                    write!(self.0, "{}{}", &part[..plain], last.escape_debug())?;
                }
                _ => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

/// Control characters, separators of lines, and what changes the direction of the text.
fn is_awkward(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Lines of JSON.
pub(super) struct Json;

/// The keys of a line, in the order in which they are written.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    fields: Map<String, Value>,
    target: &'a str,
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let level = metadata.level().as_str();
        json(writer, &Line { timestamp: now(), level, fields: fields.0, target: metadata.target() })
    }
}

fn json(mut writer: Writer<'_>, line: &Line<'_>) -> fmt::Result {
    let line = serde_json::to_string(line).map_err(|_| fmt::Error)?;
    writeln!(writer, "{line}")
}

/// Collects the fields of an event. A name that comes twice is changed the second time.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        let mut name = field.name().to_owned();
        while self.0.contains_key(&name) {
            name.push('_');
        }
        self.0.insert(name, value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }
}

/// The line that says how many lines were lost.
pub(super) fn lost(format: LogFormat, count: u64) -> Vec<u8> {
    let message = format!("{count} lines of the log were lost");
    let mut line = String::new();
    let written = match format {
        LogFormat::Text => writeln!(line, "{} ERROR {}: {message}", now(), module_path!()),
        LogFormat::Json => {
            let fields = Map::from_iter([("message".to_owned(), Value::from(message))]);
            let content = Line { timestamp: now(), level: "ERROR", fields, target: module_path!() };
            json(Writer::new(&mut line), &content)
        }
    };
    // A string takes everything.
    debug_assert!(written.is_ok());
    line.into_bytes()
}

fn now() -> String {
    let mut text = String::new();
    // A string takes everything.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
    use tracing_subscriber::{Layer, layer::SubscriberExt};

    use super::*;
    use crate::logging::queue::Queue;

    /// What is written when `log` logs.
    fn lines(format: LogFormat, log: impl FnOnce()) -> String {
        let queue = Arc::new(Queue::default());
        let layer = tracing_subscriber::fmt::layer().with_writer(Arc::clone(&queue));
        let layer = match format {
            LogFormat::Text => layer.with_ansi(false).fmt_fields(text_fields()).boxed(),
            LogFormat::Json => layer.event_format(Json).boxed(),
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let (lines, _) = queue.take_now().unwrap();
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn no_value_can_forge_a_line() {
        let evil = "a\n2026-01-01T00:00:00Z ERROR x\r\x1b[31m\u{85}\u{2028}\u{202e}b\u{7f}";
        let error = std::io::Error::other(evil);
        let log = || {
            tracing::info!(path = %evil, id = evil, "says {evil}");
            tracing::warn!(error = &error as &dyn std::error::Error, list = ?[evil]);
        };
        let text = lines(LogFormat::Text, log);
        assert_eq!(text.chars().filter(|c| is_awkward(*c)).collect::<String>(), "\n\n", "{text}");
        assert!(text.contains(r"says a\n2026-01-01T00:00:00Z ERROR x\r\u{1b}[31m"), "{text}");
        assert!(text.contains("path=a\\n2026"), "{text}");
        assert_eq!(lines(LogFormat::Json, log).lines().count(), 2);
    }

    #[test]
    fn a_line_of_text_reads_as_before() {
        let text = lines(LogFormat::Text, || tracing::info!(count = 3, name = "x y", "hello"));
        let expected = " INFO gantryd::logging::form::tests: hello count=3 name=\"x y\"\n";
        assert!(text.ends_with(expected), "{text}");
    }

    /// An object's keys, as often as they are there, and those of objects in it.
    struct Keys(Vec<String>);

    impl<'de> Deserialize<'de> for Keys {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Collect;
            impl<'de> Visitor<'de> for Collect {
                type Value = Keys;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("any value")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                    let mut keys = Vec::new();
                    while let Some((key, value)) = map.next_entry::<String, Keys>()? {
                        keys.extend(value.0.iter().map(|inner| format!("{key}.{inner}")));
                        keys.push(key);
                    }
                    Ok(Keys(keys))
                }

                fn visit_str<E>(self, _: &str) -> Result<Keys, E> {
                    Ok(Keys(Vec::new()))
                }

                fn visit_u64<E>(self, _: u64) -> Result<Keys, E> {
                    Ok(Keys(Vec::new()))
                }
            }
            deserializer.deserialize_any(Collect)
        }
    }

    #[test]
    fn json_has_each_key_once() {
        let message = "of a field";
        let text = lines(LogFormat::Json, || {
            tracing::info!(message, level = 1_u64, timestamp = 2_u64, target = "t", "itself");
        });
        let Keys(mut keys) = serde_json::from_str(&text).unwrap();
        keys.sort();
        let all = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), all, "{text}");
        assert!(keys.contains(&"fields.message_".to_owned()), "{text}");
        let Keys(lost) = serde_json::from_slice(&super::lost(LogFormat::Json, 7)).unwrap();
        assert!(lost.contains(&"fields.message".to_owned()));
    }
}
