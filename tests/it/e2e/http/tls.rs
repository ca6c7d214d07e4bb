//! Health and metrics over TLS, and `rolegate health` asking for them.

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::super::callers::setup::{
    Authority, DAY, Pair, Place, Wanted, client_config, eventually, hash,
};
use super::super::process::{Server, output};

fn place() -> Place {
    Place::new(&format!(
        "[[caller]]\nname = \"chat\"\ntoken_sha256 = [\"{}\"]\ncapabilities = [\"check\"]\n",
        hash("a-token")
    ))
}

/// The answer to a `GET` of a client that trusts this authority.
async fn get(address: &str, authority: &str, path: &str) -> std::io::Result<String> {
    let connector = TlsConnector::from(Arc::new(client_config(authority, None)));
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = connector.connect(name, stream).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    // It is closed without a farewell.
    stream.read_to_string(&mut answer).await.ok();
    Ok(answer)
}

/// The exit code of `rolegate health`, and what it says.
fn health(directory: &Path, address: &str, more: &[&str]) -> (Option<i32>, String) {
    let arguments = [&["health", "--admin-addr", address], more].concat();
    let output = output(directory, &arguments);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn health_and_metrics_are_served_over_tls_to_whoever_trusts_it() {
    let place = place();
    let server = place.start(&["--admin-tls"]);
    let admin = server.admin.clone().unwrap();
    let authority = &place.authority.pem;
    // Nobody is asked for a certificate, though gRPC asks.
    for (path, says) in [("/readyz", "ready"), ("/metrics", "rolegate_build_info")] {
        let answer = get(&admin, authority, path).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(says), "{answer}");
    }
    assert!(get(&admin, &Authority::new().pem, "/readyz").await.is_err());
    let mut plain = TcpStream::connect(&admin).await.unwrap();
    plain.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).await.ok();
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));

    // Another certificate counts here, too.
    let next = Authority::new();
    let Pair { certificate, key } = next.server();
    place.write("server.key", &key);
    place.write("server.pem", &certificate);
    eventually("the change", async || get(&admin, &next.pem, "/livez").await.is_ok()).await;
    assert!(get(&admin, authority, "/livez").await.is_err());
}

#[tokio::test]
async fn rolegate_health_asks_over_tls() {
    let place = place();
    let of_name = place.authority.sign(Wanted {
        sans: vec![rcgen::SanType::DnsName("rolegate.internal".try_into().unwrap())],
        usage: rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        until: std::time::SystemTime::now() + DAY,
    });
    place.write("named.pem", &of_name.certificate);
    place.write("named.key", &of_name.key);
    place.write("other.pem", &Authority::new().pem);
    let by_address = place.start(&["--admin-tls"]);
    let by_address = by_address.admin.as_ref().unwrap();
    let named = Server::spawn(
        place.path(),
        &[
            "serve",
            "--callers",
            "callers.toml",
            "--grpc-addr",
            "127.0.0.1:0",
            "--admin-addr",
            "127.0.0.1:0",
            "--tls-cert",
            "named.pem",
            "--tls-key",
            "named.key",
            "--admin-tls",
            "--database-url",
            "sqlite:named.db",
            "--log-format",
            "json",
        ],
    );
    let named = named.unwrap();
    let named = named.admin.as_ref().unwrap();
    let everywhere = by_address.replace("127.0.0.1", "0.0.0.0");
    let ca = ["--tls-ca", "ca.pem"];
    let name = ["--tls-ca", "ca.pem", "--tls-name", "rolegate.internal"];
    for (address, more, says) in [
        (by_address, &ca[..], None),
        (&everywhere, &ca, None),
        (named, &name, None),
        (named, &ca, Some("not valid for name")),
        (by_address, &name, Some("not valid for name")),
        (by_address, &["--tls-ca", "other.pem"], Some("invalid peer certificate")),
        (by_address, &[], Some("cannot be asked")),
        (by_address, &["--tls-ca", "none.pem"], Some("none.pem cannot be read")),
        (by_address, &["--tls-ca", "server.key"], Some("server.key has no certificate")),
        (by_address, &["--tls-name", "x"], Some("--tls-ca")),
    ] {
        let (code, said) = health(place.path(), address, more);
        match says {
            None => assert_eq!((code, said.as_str()), (Some(0), ""), "{more:?}"),
            Some(says) => {
                assert!(code != Some(0) && said.contains(says), "{more:?}: {said}");
            }
        }
    }
}

#[test]
fn admin_tls_takes_a_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let refused = Server::try_start(directory.path(), &["--admin-tls"]);
    let Err(refused) = refused else { panic!("it started") };
    assert!(refused.stderr.contains("--tls-cert"), "{}", refused.stderr);
}
