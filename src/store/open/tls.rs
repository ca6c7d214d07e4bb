//! How a database server proves who it is: as libpq understands the same words, or not at all.

use std::path::{Path, PathBuf};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::store::OpenError;

/// The files that a URL may name, and what each of them must hold.
const FILES: [(&str, &str); 3] =
    [("sslrootcert", "CERTIFICATE"), ("sslcert", "CERTIFICATE"), ("sslkey", "PRIVATE KEY")];

/// Makes sure that the files are there, and that a server is checked where somebody said so.
///
/// # Errors
/// Names the file, or the mode to choose.
pub(super) fn checked(
    server: PgConnectOptions,
    parameters: &str,
) -> Result<PgConnectOptions, OpenError> {
    for (name, holds) in FILES {
        if let Some(path) = value(parameters, name).map(PathBuf::from) {
            readable(&path, holds).map_err(|reason| OpenError::TlsFile {
                parameter: name,
                path,
                reason,
            })?;
        }
    }
    let root = value(parameters, "sslrootcert").map(PathBuf::from);
    let environment = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let only = environment("SSL_CERT_FILE").map(PathBuf::from);
    let only = only.filter(|_| environment("SSL_CERT_DIR").is_none());
    match (server.get_ssl_mode(), &root) {
        (PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer, Some(_)) => {
            Err(OpenError::BadUrl(
                "sslrootcert is of no use without sslmode=verify-full: no server would be checked"
                    .to_owned(),
            ))
        }
        // What libpq makes of it: the authority is checked, the name is not. The driver takes the
        // system's authorities as well, each of which certifies anybody.
        (PgSslMode::Require, Some(_)) | (PgSslMode::VerifyCa, _) => {
            if is_only_authority(root.as_deref(), only.as_deref()) {
                return Ok(server.ssl_mode(PgSslMode::VerifyCa));
            }
            Err(OpenError::BadUrl(
                "with sslmode=verify-ca, or require with sslrootcert, a certificate of any authority \
                 that this system knows would do, for whatever name: write sslmode=verify-full. If the \
                 server's certificate does not have its name, set SSL_CERT_FILE to the file that \
                 sslrootcert names, and SSL_CERT_DIR to nothing, so that no other authority counts"
                    .to_owned(),
            ))
        }
        _ => Ok(server),
    }
}

fn is_only_authority(root: Option<&Path>, only: Option<&Path>) -> bool {
    let same = |one: &Path, other: &Path| matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other);
    only.is_some_and(|only| root.is_none_or(|root| same(root, only)))
}

fn readable(path: &Path, holds: &str) -> Result<(), String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let content = std::fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&content);
    let marked = |line: &str| line.starts_with("-----BEGIN ") && line.contains(holds);
    if text.lines().any(marked) {
        return Ok(());
    }
    Err(format!("there is no {} in it, in PEM", holds.to_lowercase()))
}

/// A parameter of a URL, decoded.
fn value(parameters: &str, name: &str) -> Option<String> {
    let found =
        parameters.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let mut bytes = Vec::new();
    let mut rest = found.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let digits = more.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let encoded = digits
            .filter(|_| *first == b'%')
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = if encoded.is_some() { more.get(2..).unwrap_or_default() } else { more };
        bytes.push(encoded.unwrap_or(if *first == b'+' { b' ' } else { *first }));
    }
    String::from_utf8(bytes).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(url: &str) -> Result<PgConnectOptions, OpenError> {
        checked(url.parse().unwrap(), url.split_once('?').map_or("", |(_, rest)| rest))
    }

    #[test]
    fn a_server_is_checked_where_somebody_says_so_or_it_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a root.pem");
        std::fs::write(&root, "-----BEGIN CERTIFICATE-----\n").unwrap();
        let root = root.display().to_string().replace(' ', "%20");
        let url = |more: &str| format!("postgres://kim@host/db?{more}&sslrootcert={root}");
        assert!(asked(&url("sslmode=verify-full")).is_ok());
        for mode in ["require", "verify-ca", "prefer", "allow", "disable"] {
            let error = asked(&url(&format!("sslmode={mode}"))).unwrap_err().to_string();
            assert!(error.contains("sslmode=verify-full"), "{mode}: {error}");
        }
        assert!(asked("postgres://kim@host/db?sslmode=verify-ca").is_err());
        for mode in ["require", "disable", "verify-full"] {
            assert!(asked(&format!("postgres://kim@host/db?sslmode={mode}")).is_ok(), "{mode}");
        }
        for (name, _) in FILES {
            let url = format!("postgres://kim@host/db?sslmode=verify-full&{name}=/no/such.pem");
            let error = asked(&url).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("/no/such.pem"), "{error}");
        }
        let empty = directory.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let url = format!("postgres://h/d?sslmode=verify-full&sslrootcert={}", empty.display());
        let error = asked(&url).unwrap_err().to_string();
        assert!(error.contains("no certificate in it"), "{error}");
    }

    #[test]
    fn one_authority_alone_may_vouch_for_any_name() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (directory.path().join("one"), directory.path().join("other"));
        std::fs::write(&one, "").unwrap();
        std::fs::write(&other, "").unwrap();
        assert!(is_only_authority(Some(&one), Some(&one)) && is_only_authority(None, Some(&one)));
        assert!(!is_only_authority(Some(&one), Some(&other)));
        assert!(!is_only_authority(Some(&one), None) && !is_only_authority(None, None));
    }
}
