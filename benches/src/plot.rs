//! The ratios as a picture: a bar each, and a mark where it is to stay below.

use std::fmt::Write as _;

use crate::table::{Bound, Row, number};

const WIDTH: f64 = 860.0;
const LABELS: f64 = 400.0;
const BAR: f64 = 16.0;
const LINE: f64 = 26.0;
const TOP: f64 = 54.0;

/// SVG of the rows that are a ratio with an upper bound.
pub(crate) fn svg(rows: &[Row]) -> String {
    let bars: Vec<(String, f64, f64)> = rows
        .iter()
        .filter_map(|Row { what, against, figure, .. }| {
            let figure = figure.as_ref().filter(|figure| figure.unit == "×")?;
            let Some(Bound::AtMost(bound)) = figure.bound else { return None };
            Some((format!("{} / {against}", what.replace('`', "")), figure.value, bound))
        })
        .collect();
    let largest = bars.iter().map(|(_, value, bound)| value.max(*bound)).fold(1.0, f64::max);
    let scale = (WIDTH - LABELS - 60.0) / largest;
    let height = TOP + LINE * bars.len() as f64 + 12.0;
    let mut svg = String::new();
    let mut put = |line: String| writeln!(svg, "{line}").unwrap_or_default();
    put(format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">"##
    ));
    put(r##"<rect width="100%" height="100%" fill="#ffffff"/>"##.to_owned());
    put(r##"<text x="12" y="22" font-size="15" font-weight="bold" fill="#222222">Cost as a multiple of what it is measured beside</text>"##.to_owned());
    put(r##"<text x="12" y="40" fill="#666666">shorter is cheaper; the mark is what is to be reached</text>"##.to_owned());
    for (place, (label, value, bound)) in bars.iter().enumerate() {
        let top = TOP + LINE * place as f64;
        let (length, mark) = (value * scale, LABELS + bound * scale);
        let colour = if value <= bound { "#2f7d6b" } else { "#c4622d" };
        let text = top + BAR - 4.0;
        put(format!(
            r##"<text x="{:.0}" y="{text:.0}" text-anchor="end" fill="#222222">{}</text>"##,
            LABELS - 8.0,
            escaped(label)
        ));
        put(format!(
            r##"<rect x="{LABELS}" y="{top:.0}" width="{length:.1}" height="{BAR}" fill="{colour}"/>"##
        ));
        put(format!(
            r##"<line x1="{mark:.1}" x2="{mark:.1}" y1="{:.0}" y2="{:.0}" stroke="#222222" stroke-width="2"/>"##,
            top - 3.0,
            top + BAR + 3.0
        ));
        put(format!(
            r##"<text x="{:.1}" y="{text:.0}" fill="#222222">{}</text>"##,
            LABELS + length.max(bound * scale) + 8.0,
            number(*value)
        ));
    }
    put("</svg>".to_owned());
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
