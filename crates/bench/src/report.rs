//! The results of the measurements, and their output as Markdown and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

/// All that was measured in one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Vec<(String, String)>,
    pub(crate) measures: Vec<Measure>,
}

/// One quantity, measured of several subjects in turn. The first is what the others are compared
/// with.
#[derive(Debug, Serialize)]
pub(crate) struct Measure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// Whether more is better, as with rates.
    pub(crate) more_is_better: bool,
    pub(crate) series: Vec<Series>,
    pub(crate) aims: Vec<Aim>,
}

/// One subject's samples.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) subject: String,
    pub(crate) samples: Vec<f64>,
}

/// A goal for the medians.
#[derive(Debug, Serialize)]
pub(crate) struct Aim {
    of: String,
    versus: Versus,
    bound: Bound,
}

/// What a subject's median is put in relation to.
#[derive(Debug, Serialize)]
pub(crate) enum Versus {
    Nothing,
    /// Divided by another subject's.
    Ratio(String),
    /// Less another subject's.
    Beyond(String),
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Series {
    /// The value that this share of the samples does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        sorted.get(index).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

impl Measure {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            unit,
            more_is_better: false,
            series: Vec::new(),
            aims: Vec::new(),
        }
    }

    pub(crate) fn more_is_better(mut self) -> Self {
        self.more_is_better = true;
        self
    }

    pub(crate) fn aim(mut self, of: &str, versus: Versus, bound: Bound) -> Self {
        self.aims.push(Aim { of: of.to_owned(), versus, bound });
        self
    }

    /// Adds a sample of a subject. More digits than these would be noise.
    pub(crate) fn push(&mut self, subject: &str, sample: f64) {
        let sample = (sample * 1e3).round() / 1e3;
        match self.series.iter_mut().find(|series| series.subject == subject) {
            Some(series) => series.samples.push(sample),
            None => {
                self.series.push(Series { subject: subject.to_owned(), samples: vec![sample] });
            }
        }
    }

    fn median(&self, subject: &str) -> Option<f64> {
        self.series.iter().find(|series| series.subject == subject).map(Series::median)
    }

    /// The worst 1 % are the smallest where more is better.
    pub(crate) fn worst(&self, series: &Series) -> f64 {
        series.quantile(if self.more_is_better { 0.01 } else { 0.99 })
    }

    fn rows(&self, text: &mut String) {
        let reference = self.series.first().map(Series::median);
        for (index, series) in self.series.iter().enumerate() {
            let name = if index == 0 { &self.name } else { "" };
            let ratio = match reference {
                Some(reference) if index > 0 => format!("{:.2}", series.median() / reference),
                _ => String::new(),
            };
            let (median, worst) = (number(series.median()), number(self.worst(series)));
            let (unit, count) = (self.unit, series.samples.len());
            let subject = &series.subject;
            let _ = writeln!(
                text,
                "| {name} | {subject} | {median} {unit} | {worst} {unit} | {ratio} | {count} |"
            );
        }
    }

    /// How each aim was met, where its subjects were measured.
    fn verdicts(&self, text: &mut String) {
        for Aim { of, versus, bound } in &self.aims {
            let Some(median) = self.median(of) else { continue };
            let (relation, value, unit) = match versus {
                Versus::Nothing => (String::new(), Some(median), format!(" {}", self.unit)),
                Versus::Ratio(other) => {
                    let ratio = self.median(other).map(|other| median / other);
                    (format!(" / {other}"), ratio, String::new())
                }
                Versus::Beyond(other) => {
                    let beyond = self.median(other).map(|other| median - other);
                    (format!(" beyond {other}"), beyond, format!(" {}", self.unit))
                }
            };
            let Some(value) = value else { continue };
            let (sign, wanted, met) = match *bound {
                Bound::AtMost(most) => ("≤", most, value <= most),
                Bound::AtLeast(least) => ("≥", least, value >= least),
            };
            let met = if met { "yes" } else { "no" };
            let _ = writeln!(
                text,
                "| {} | {of}{relation} | {sign} {}{unit} | {}{unit} | {met} |",
                self.name,
                number(wanted),
                number(value)
            );
        }
    }
}

impl Report {
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for (what, value) in &self.machine {
            let _ = writeln!(text, "- {what}: {value}");
        }
        text.push_str("\n| aim | of | wanted | measured | met |\n|---|---|--:|--:|---|\n");
        self.measures.iter().for_each(|measure| measure.verdicts(&mut text));
        text.push_str(
            "\n| what | subject | median | p99 | ratio | n |\n|---|---|--:|--:|--:|--:|\n",
        );
        self.measures.iter().for_each(|measure| measure.rows(&mut text));
        text
    }
}

/// Three significant digits.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        x if x >= 100.0 || x == 0.0 => 0,
        x if x >= 10.0 => 1,
        x if x >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure() -> Measure {
        let mut measure = Measure::new("create", "ms")
            .aim("Gantry", Versus::Ratio("runc".to_owned()), Bound::AtMost(1.1))
            .aim("Gantry", Versus::Beyond("runc".to_owned()), Bound::AtMost(1.0))
            .aim("Gantry", Versus::Ratio("absent".to_owned()), Bound::AtMost(1.0));
        for sample in [10.0, 30.0, 20.0] {
            measure.push("runc", sample);
            measure.push("Gantry", sample + 1.5);
        }
        measure
    }

    #[test]
    fn medians_and_quantiles() {
        let measure = measure();
        assert_eq!(measure.median("runc"), Some(20.0));
        assert_eq!(measure.worst(&measure.series[0]), 30.0);
        assert_eq!(measure.more_is_better().worst(&measure_series()), 1.0);
    }

    fn measure_series() -> Series {
        Series { subject: String::new(), samples: vec![3.0, 1.0, 2.0] }
    }

    #[test]
    fn aims_are_judged_by_medians() {
        let mut text = String::new();
        measure().verdicts(&mut text);
        let expected = "| create | Gantry / runc | ≤ 1.10 | 1.07 | yes |\n\
                        | create | Gantry beyond runc | ≤ 1.00 ms | 1.50 ms | no |\n";
        assert_eq!(text, expected);
    }
}
