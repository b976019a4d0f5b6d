//! Metrics of OTLP, built of numbers: cumulative, from the start of the server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gantry_measures::Distribution;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
        metric::Data, number_data_point::Value,
    },
};

/// When something was counted: since when, and until when, in nanoseconds since the epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    start: u64,
    time: u64,
}

/// The attributes of a point.
pub(super) type Attributes<'a> = &'a [(&'static str, &'a str)];

impl Span {
    pub(super) fn new(start: SystemTime, time: SystemTime) -> Self {
        let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanoseconds = |since: Duration| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Self { start: nanoseconds(since(start)), time: nanoseconds(since(time)) }
    }

    /// Something that is counted, and never falls unless it begins again.
    pub(super) fn count(self, attributes: Attributes<'_>, count: u64) -> NumberDataPoint {
        self.number(attributes, Value::AsInt(i64::try_from(count).unwrap_or(i64::MAX)))
    }

    /// A duration, in seconds.
    pub(super) fn seconds(self, attributes: Attributes<'_>, time: Duration) -> NumberDataPoint {
        self.number(attributes, Value::AsDouble(time.as_secs_f64()))
    }

    fn number(self, attributes: Attributes<'_>, value: Value) -> NumberDataPoint {
        NumberDataPoint {
            attributes: key_values(attributes),
            start_time_unix_nano: self.start,
            time_unix_nano: self.time,
            value: Some(value),
            ..NumberDataPoint::default()
        }
    }

    pub(super) fn distribution(
        self,
        attributes: Attributes<'_>,
        durations: &Distribution,
    ) -> HistogramDataPoint {
        HistogramDataPoint {
            attributes: key_values(attributes),
            start_time_unix_nano: self.start,
            time_unix_nano: self.time,
            count: durations.count(),
            sum: Some(durations.sum.as_secs_f64()),
            bucket_counts: durations.buckets.to_vec(),
            explicit_bounds: gantry_measures::bounds_in_seconds().collect(),
            ..HistogramDataPoint::default()
        }
    }
}

fn key_values(attributes: Attributes<'_>) -> Vec<KeyValue> {
    let pair = |(key, value): &(&'static str, &str)| KeyValue {
        key: (*key).to_owned(),
        value: Some(AnyValue { value: Some(any_value::Value::StringValue((*value).to_owned())) }),
        ..KeyValue::default()
    };
    attributes.iter().map(pair).collect()
}

/// A name and a unit.
pub(super) type Named = (&'static str, &'static str);

/// What only grows.
pub(super) fn counter(named: Named, points: Vec<NumberDataPoint>) -> Metric {
    sum(named, points, true)
}

/// What there is now, of which the sum over the attributes makes sense.
pub(super) fn level(named: Named, points: Vec<NumberDataPoint>) -> Metric {
    sum(named, points, false)
}

fn sum(named: Named, data_points: Vec<NumberDataPoint>, is_monotonic: bool) -> Metric {
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    metric(named, Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic }))
}

/// What there is now, of which a sum makes no sense.
pub(super) fn gauge(named: Named, data_points: Vec<NumberDataPoint>) -> Metric {
    metric(named, Data::Gauge(Gauge { data_points }))
}

/// Durations.
pub(super) fn histogram(name: &'static str, data_points: Vec<HistogramDataPoint>) -> Metric {
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    metric((name, "s"), Data::Histogram(Histogram { data_points, aggregation_temporality }))
}

fn metric((name, unit): Named, data: Data) -> Metric {
    let (name, unit) = (name.to_owned(), unit.to_owned());
    Metric { name, unit, data: Some(data), ..Metric::default() }
}
