//! The `[[jwt]]` tables of a callers file: whose tokens count, and where the keys are.

use std::time::Duration;

use super::file::{KeySource, ProviderEntry, Seen, nonempty, required};
use super::jwt::{self, Algorithm};
use crate::domain::document::{Fields, Word};

/// How far the clocks of an issuer and of this server may be apart when the file does not say.
pub(super) const LEEWAY_SECONDS: u32 = 30;
/// The most that the file may say.
const MAX_LEEWAY_SECONDS: u32 = 300;

pub(super) fn provider(fields: Fields<'_>, seen: &mut Seen<'_, '_>) -> Option<ProviderEntry> {
    let name = fields.required_word("name");
    let fields = fields.named("jwt", name.as_ref());
    let issuer = required(&fields, "issuer");
    let audience = required(&fields, "audience");
    let algorithms = fields.required_words("algorithms").map(|words| algorithms(&fields, &words));
    let leeway = fields.number("leeway_seconds", 0..=MAX_LEEWAY_SECONDS).unwrap_or(LEEWAY_SECONDS);
    let keys = key_source(&fields);
    if let Some(name) = &name {
        nonempty(&fields, "name", name);
        let first = seen.providers.insert(name.text.clone(), name.at);
        seen.again(name.at, &format!("the name {name}"), first);
    }
    if let Some(issuer) = &issuer {
        let first = seen.issuers.insert(issuer.text.clone(), issuer.at);
        seen.again(issuer.at, &format!("the issuer {issuer}"), first);
    }
    fields.finish();
    Some(ProviderEntry {
        name: name?.text,
        issuer: issuer?.text,
        audience: audience?.text,
        algorithms: algorithms?,
        keys: keys?,
        leeway: Duration::from_secs(leeway.into()),
    })
}

fn algorithms(fields: &Fields<'_>, words: &[Word]) -> Vec<Algorithm> {
    if words.is_empty() {
        fields.report(fields.at(), format!("algorithms of {} names none", fields.what()));
    }
    let named = |word: &Word| {
        let found = jwt::algorithm(&word.text);
        if found.is_none() {
            let known: Vec<&str> = jwt::ALGORITHMS.iter().map(|(name, _)| *name).collect();
            let why = match word.text.as_str() {
                "HS256" | "HS384" | "HS512" => " (whoever checks such a token could also make one)",
                text if text.eq_ignore_ascii_case("none") => " (such a token is signed by nobody)",
                _ => "",
            };
            let message = format!(
                "algorithms of {} may be {}, not {word}{why}",
                fields.what(),
                known.join(", ")
            );
            fields.report(word.at, message);
        }
        found
    };
    words.iter().filter_map(named).collect()
}

fn key_source(fields: &Fields<'_>) -> Option<KeySource> {
    let (file, url) = (fields.word("jwks_file"), fields.word("jwks_url"));
    let authorities = fields.word("jwks_ca_file");
    match (file, url) {
        (Some(file), None) => {
            nonempty(fields, "jwks_file", &file);
            if let Some(authorities) = &authorities {
                fields.report(authorities.at, "jwks_ca_file only goes with jwks_url");
            }
            Some(KeySource::File(file.text))
        }
        (None, Some(url)) => {
            if let Err(why) = jwt::check_url(&url.text) {
                fields.report(url.at, format!("jwks_url of {} {why}", fields.what()));
            }
            Some(KeySource::Url(url.text, authorities.map(|word| word.text)))
        }
        (Some(_), Some(url)) => {
            let message = format!("{} has both jwks_file and jwks_url", fields.what());
            fields.report(url.at, message);
            None
        }
        (None, None) => {
            fields.report(fields.at(), format!("{} has no jwks_file or jwks_url", fields.what()));
            None
        }
    }
}
