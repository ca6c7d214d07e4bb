//! The registry that `/metrics` reads out.
//!
//! Whoever counts something keeps plain numbers, and a collector reads them when it is asked: a
//! request never waits for a scrape. What is not measured yet has no collector, so that a missing
//! series means "not known" and a zero means zero.

use std::sync::{PoisonError, RwLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// All that is measured.
#[derive(Debug)]
pub struct Metrics {
    registry: RwLock<Registry>,
}

impl Metrics {
    /// The type of [`Metrics::text`]: the text format as OpenMetrics has it, which Prometheus and
    /// whatever scrapes like it take.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Metrics { registry: RwLock::new(Registry::with_prefix("rolegate")) }
    }

    /// Adds what a collector measures; all names get the prefix `rolegate_`.
    pub fn add(&self, collector: impl Collector) {
        let mut registry = self.registry.write().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(collector));
    }

    /// Everything as it is now.
    ///
    /// # Errors
    /// A collector failed.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry.read().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
