//! The registry that `/metrics` reads out.
//!
//! Whoever counts something keeps plain numbers, and a collector reads them when it is asked: a
//! request never waits for a scrape. What is not measured yet has no collector, so that a missing
//! series means "not known" and a zero means zero.

use std::fmt::{self, Write as _};
use std::sync::{PoisonError, RwLock};

use http::HeaderValue;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// Format of a scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0, which Prometheus and whatever scrapes like it take.
    OpenMetrics,
    /// Prometheus's own text format 0.0.4, for what takes nothing newer.
    Text,
}

impl Format {
    /// Returns the format that a client takes by its `accept` headers. OpenMetrics where it says
    /// nothing of either.
    pub fn asked_for<'a>(accept: impl IntoIterator<Item = &'a HeaderValue>) -> Self {
        let mut takes_text = false;
        for header in accept {
            for range in header.to_str().unwrap_or_default().split(',') {
                let mut parts = range.split(';').map(str::trim);
                let kind = parts.next().unwrap_or_default();
                let refused = |part: &str| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
                if parts.any(refused) {
                    continue;
                }
                if kind.eq_ignore_ascii_case("application/openmetrics-text") {
                    return Format::OpenMetrics;
                }
                takes_text |= kind.eq_ignore_ascii_case("text/plain") || kind == "text/*";
            }
        }
        if takes_text { Format::Text } else { Format::OpenMetrics }
    }

    /// Returns the type that an answer in this format has.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// All that is measured.
#[derive(Debug)]
pub struct Metrics {
    registry: RwLock<Registry>,
    /// With names that every program has, such as `process_cpu_seconds_total`.
    common: RwLock<Registry>,
}

impl Metrics {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Metrics {
            registry: RwLock::new(Registry::with_prefix("rolegate")),
            common: RwLock::default(),
        }
    }

    /// Adds what a collector measures; all names get the prefix `rolegate_`.
    pub fn add(&self, collector: impl Collector) {
        let mut registry = self.registry.write().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(collector));
    }

    /// Adds what a collector measures under names that other programs have too.
    pub fn add_common(&self, collector: impl Collector) {
        let mut registry = self.common.write().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(collector));
    }

    /// Everything as it is now.
    ///
    /// # Errors
    /// A collector failed.
    pub fn text(&self, format: Format) -> Result<String, fmt::Error> {
        let mut text = String::new();
        for registry in [&self.registry, &self.common] {
            let registry = registry.read().unwrap_or_else(PoisonError::into_inner);
            text::encode_registry(&mut text, &registry)?;
        }
        text::encode_eof(&mut text)?;
        match format {
            Format::OpenMetrics => Ok(text),
            Format::Text => plain(&text),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The same in the older text format, in which a counter's family has the name of its samples, and
/// units and the end are not told.
fn plain(openmetrics: &str) -> Result<String, fmt::Error> {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name)) => {
                help = Some((name, words.next().unwrap_or_default()));
            }
            (Some("#"), Some("TYPE"), Some(name)) => {
                let kind = words.next().unwrap_or_default();
                let total = if kind == "counter" { "_total" } else { "" };
                if let Some((_, said)) = help.take().filter(|(of, _)| *of == name) {
                    writeln!(text, "# HELP {name}{total} {said}")?;
                }
                writeln!(text, "# TYPE {name}{total} {kind}")?;
            }
            (Some("#"), ..) => {}
            _ => writeln!(text, "{line}")?,
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_is_for_those_who_take_nothing_newer() {
        for (accept, format) in [
            ("", Format::OpenMetrics),
            ("*/*", Format::OpenMetrics),
            ("text/plain;version=0.0.4", Format::Text),
            ("text/plain; version=0.0.4; charset=utf-8, */*;q=0.1", Format::Text),
            ("text/*", Format::Text),
            ("application/openmetrics-text;q=0, text/plain", Format::Text),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
                Format::OpenMetrics,
            ),
        ] {
            let header = HeaderValue::from_str(accept).unwrap();
            assert_eq!(Format::asked_for([&header]), format, "{accept}");
        }
        assert_eq!(Format::asked_for([]), Format::OpenMetrics);
    }
}
