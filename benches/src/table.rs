//! What was measured, as a table.

/// A line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) what: String,
    /// What it took.
    pub(crate) measured: String,
    /// Beside what.
    pub(crate) against: String,
    /// What that took.
    pub(crate) theirs: String,
    /// Ours divided by theirs, or a figure that has a bound of its own.
    pub(crate) figure: Option<Figure>,
}

/// A figure with the bound that it is to stay within.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) bound: Option<Bound>,
}

/// What is to be reached.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    pub(crate) fn at_most(value: f64, bound: f64) -> Option<Self> {
        Some(Figure { value, unit: "×", bound: Some(Bound::AtMost(bound)) })
    }

    pub(crate) fn at_least(value: f64, bound: f64) -> Option<Self> {
        Some(Figure { value, unit: "×", bound: Some(Bound::AtLeast(bound)) })
    }

    pub(crate) fn ratio(value: f64) -> Option<Self> {
        Some(Figure { value, unit: "×", bound: None })
    }

    pub(crate) fn at_most_of(value: f64, unit: &'static str, bound: f64) -> Option<Self> {
        Some(Figure { value, unit, bound: Some(Bound::AtMost(bound)) })
    }

    fn text(&self) -> String {
        format!("{} {}", number(self.value), self.unit)
    }

    fn bound(&self) -> String {
        let Some(bound) = self.bound else { return String::new() };
        let (sign, wanted, reached) = match bound {
            Bound::AtMost(wanted) => ("≤", wanted, self.value <= wanted),
            Bound::AtLeast(wanted) => ("≥", wanted, self.value >= wanted),
        };
        format!("{sign} {}{}", number(wanted), if reached { "" } else { ", **not reached**" })
    }
}

/// As many digits as mean something.
pub(crate) fn number(value: f64) -> String {
    match value {
        large if large >= 1000.0 => {
            let whole = format!("{large:.0}");
            let digits = whole.len();
            let mut text = String::new();
            for (place, digit) in whole.chars().enumerate() {
                if place > 0 && (digits - place) % 3 == 0 {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// For Markdown.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = "| what | Rolegate | beside | takes | ratio | reach |\n".to_owned();
    text += "|---|---|---|---|---|---|\n";
    for Row { what, measured, against, theirs, figure } in rows {
        let ratio = figure.as_ref().map(Figure::text).unwrap_or_default();
        let bound = figure.as_ref().map(Figure::bound).unwrap_or_default();
        text += &format!("| {what} | {measured} | {against} | {theirs} | {ratio} | {bound} |\n");
    }
    text
}
