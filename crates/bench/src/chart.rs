//! Bars for medians and whiskers for the worst 1 %, as SVG.

use std::fmt::Write as _;

use crate::report::{Measure, number};

const WIDTH: f64 = 760.0;
const BARS: f64 = 200.0;
const ROW: f64 = 20.0;
const TITLE: f64 = 26.0;
const COLOURS: [&str; 4] = ["#8a8f98", "#2563eb", "#d97706", "#b91c1c"];

/// A chart of several measures, one below the other, each on its own scale.
pub(crate) fn svg(title: &str, measures: &[&Measure]) -> String {
    let rows: usize = measures.iter().map(|measure| measure.series.len()).sum();
    let height = 40.0 + measures.len() as f64 * (TITLE + 8.0) + rows as f64 * ROW;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"24\" font-size=\"16\" font-weight=\"bold\">{title}</text>\n"
    );
    let mut y = 40.0;
    for measure in measures {
        y = draw(&mut text, measure, y);
    }
    text.push_str("</svg>\n");
    text
}

fn draw(text: &mut String, measure: &Measure, top: f64) -> f64 {
    let Measure { name, unit, series, .. } = measure;
    let name = name.replace('&', "&amp;").replace('<', "&lt;");
    let mut y = top + TITLE;
    let _ = writeln!(text, "<text x=\"10\" y=\"{}\" font-weight=\"bold\">{name}</text>", y - 8.0);
    let ends = series.iter().map(|series| series.median().max(measure.worst(series)));
    let scale = (WIDTH - BARS - 120.0) / ends.fold(f64::MIN_POSITIVE, f64::max);
    for (index, series) in series.iter().enumerate() {
        let (median, worst) = (series.median() * scale, measure.worst(series) * scale);
        let (subject, value) = (&series.subject, number(series.median()));
        let colour = COLOURS[index % COLOURS.len()];
        let (base, middle) = (y + ROW - 8.0, y + ROW / 2.0 - 2.0);
        let label = BARS + median.max(worst) + 8.0;
        let from = BARS + median.min(worst);
        let to = BARS + median.max(worst);
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{subject}</text>\
             <rect x=\"{BARS}\" y=\"{y}\" width=\"{median:.1}\" height=\"{}\" fill=\"{colour}\"/>\
             <path d=\"M{from:.1} {middle}H{to:.1}m0 -4v8\" stroke=\"#111\" fill=\"none\"/>\
             <text x=\"{label:.1}\" y=\"{base}\">{value} {unit}</text>",
            BARS - 8.0,
            ROW - 4.0,
        );
        y += ROW;
    }
    y + 8.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_stays_inside() {
        let mut measure = Measure::new("a < b", "ms");
        measure.push("short", 1.0);
        measure.push("long", 1e9);
        let text = svg("title", &[&measure]);
        assert!(text.contains("width=\"440.0\""), "{text}");
        assert!(text.contains("a &lt; b"));
    }
}
