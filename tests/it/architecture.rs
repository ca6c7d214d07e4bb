//! Imports point one way: domain <- store <- service <- grpc, http <- server <- main.

use std::fs;
use std::path::{Path, PathBuf};

/// A layer, and what it may name besides itself.
const LAYERS: [(&str, &[&str]); 6] = [
    ("domain", &[]),
    ("store", &["domain"]),
    ("service", &["domain", "store"]),
    ("grpc", &["domain", "store", "service"]),
    ("http", &["domain", "store", "service"]),
    ("server", &["domain", "store", "service", "grpc", "http"]),
];

/// What a layer must not depend on.
const FOREIGN: [(&str, &[&str]); 4] = [
    ("domain", &["tokio", "sea_orm", "prost", "tonic", "tracing", "moka", "http", "hyper"]),
    ("store", &["prost", "tonic", "hyper"]),
    ("service", &["sea_orm", "prost", "tonic", "moka", "hyper"]),
    ("grpc", &["sea_orm", "moka"]),
];

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a layer: path, line, text; comments left out.
fn lines(layer: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(layer);
    let mut found = Vec::new();
    files(&root, &mut found);
    let mut lines = Vec::new();
    for file in found {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            if !line.trim_start().starts_with("//") {
                lines.push((format!("{}:{}", file.display(), number + 1), line.to_owned()));
            }
        }
    }
    lines
}

/// Whether a path that begins with this word is named in the line.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = &line[start + path.len()..];
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
            && (after.starts_with("::") || after.starts_with(';'))
    })
}

#[test]
fn imports_point_one_way() {
    let mut wrong = Vec::new();
    for (layer, allowed) in LAYERS {
        for (place, line) in lines(layer) {
            for (other, _) in LAYERS {
                let fine = other == layer || allowed.contains(&other);
                if !fine && names(&line, &format!("crate::{other}")) {
                    wrong.push(format!("{place}: {layer} must not name {other}: {line}"));
                }
            }
        }
    }
    for (layer, foreign) in FOREIGN {
        for (place, line) in lines(layer) {
            for library in foreign {
                if names(&line, library) {
                    wrong.push(format!("{place}: {layer} must not use {library}: {line}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(lines("domain").len() > 1_000, "the domain was not found");
}

/// Statements that name no columns. A server that has one prepared refuses it once a migration has
/// added a column, so an upgrade would end every replica of the version before.
fn names_no_columns(line: &str) -> bool {
    let line = line.to_uppercase();
    let selects = line.match_indices('*').any(|(at, _)| {
        let before = line[..at].trim_end();
        let before = before.strip_suffix("DISTINCT").unwrap_or(before).trim_end();
        before.ends_with("SELECT") || before.ends_with("RETURNING") || is_table(before)
    });
    let all_of_them = ["ASTERISK", "RETURNING_ALL", ".SELECT_STAR"];
    selects || all_of_them.iter().any(|name| line.contains(name))
}

/// Whether a text ends like the `t.` of `t.*`, within a statement.
fn is_table(before: &str) -> bool {
    let Some(name) = before.strip_suffix('.') else { return false };
    name.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"')
}

#[test]
fn statements_name_their_columns() {
    for (line, expected) in [
        ("SELECT * FROM changes", true),
        ("select  distinct * from changes", true),
        ("DELETE FROM meta RETURNING *", true),
        ("SELECT state.*, c.tx", true),
        (".column(Asterisk)", true),
        ("SELECT count(*) FROM changes", false),
        ("let total = 2 * count;", false),
    ] {
        assert_eq!(names_no_columns(line), expected, "{line}");
    }
    let mut wrong = Vec::new();
    for (layer, _) in LAYERS.into_iter().chain([("cli", &[][..]), ("../migrations/src", &[])]) {
        let lines = lines(layer).into_iter();
        wrong.extend(lines.filter(|(_, line)| names_no_columns(line)).map(|(place, _)| place));
    }
    assert!(wrong.is_empty(), "statements that name no columns: {}", wrong.join("\n"));
}
