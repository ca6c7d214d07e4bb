//! Fields of text logs, `name=value`. Values come from clients too, who must not be able to write
//! something that reads like another field, another line, or nothing at all: a value stands bare
//! only if it is plain, else quoted and escaped.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Formatter of an event's message and fields.
#[derive(Debug)]
pub(super) struct QuotedFields;

impl<'writer> FormatFields<'writer> for QuotedFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut written = Written { writer, any: false, result: Ok(()) };
        fields.record(&mut written);
        written.result
    }
}

struct Written<'writer> {
    writer: Writer<'writer>,
    any: bool,
    result: fmt::Result,
}

impl Written<'_> {
    fn write(&mut self, field: &Field, value: &str) {
        if self.result.is_err() {
            return;
        }
        let space = if std::mem::replace(&mut self.any, true) { " " } else { "" };
        self.result = match field.name() {
            // The program's own words. What they quote must not break the line all the same.
            "message" => write!(self.writer, "{space}{}", OneLine(value)),
            // Where a record of the `log` crate came from.
            name if name.starts_with("log.") => Ok(()),
            name if is_plain(value) => write!(self.writer, "{space}{name}={value}"),
            name => write!(self.writer, "{space}{name}={value:?}"),
        };
    }
}

impl Visit for Written<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, &format!("{value:?}"));
    }
}

/// Whether nobody can mistake the value for something else.
fn is_plain(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@+,%*#~".contains(&byte);
    !value.is_empty() && value.bytes().all(plain)
}

/// Text without line breaks and characters that are not shown.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '"' | '\'' | '\\' => f.write_char(character)?,
                other => write!(f, "{}", other.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .with_level(false)
            .fmt_fields(QuotedFields);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_value_cannot_pass_for_a_field_or_a_line() {
        for (value, shown) in [
            ("acme", "tenant=acme"),
            ("spiffe://a.b/c@d", "tenant=spiffe://a.b/c@d"),
            ("", "tenant=\"\""),
            ("x revision=1 caller=root", "tenant=\"x revision=1 caller=root\""),
            ("a=b", "tenant=\"a=b\""),
            ("say \"hi\"", r#"tenant="say \"hi\"""#),
            ("a\nb\u{1b}[31m", r#"tenant="a\nb\u{1b}[31m""#),
            ("a\u{2028}b\u{202e}c\u{200b}", r#"tenant="a\u{2028}b\u{202e}c\u{200b}""#),
            ("김", "tenant=\"김\""),
        ] {
            let as_text = logged(|| tracing::info!(tenant = value, "made"));
            assert_eq!(as_text.trim_start(), format!("made {shown}\n"));
            let displayed = logged(|| tracing::info!(tenant = %value, "made"));
            assert_eq!(displayed, as_text);
        }
    }

    #[test]
    fn a_message_is_one_line() {
        let text = logged(|| tracing::info!(n = 1, "it's {}", "a\nb\u{202e}"));
        assert_eq!(text.trim_start(), "it's a\\nb\\u{202e} n=1\n");
    }
}
