//! What the command line makes, tried out as a stranger would, and what it refuses.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Output;

use rolegate::grpc::pb;
use rolegate::grpc::pb::tenant_service_client::TenantServiceClient;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::setup::{Pair, check, connect, is_nobody};
use crate::e2e::process::{Server, output};

fn run(directory: &std::path::Path, arguments: &[&str]) -> Output {
    output(directory, arguments)
}

#[tokio::test]
async fn from_nothing_to_callers_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let read = |name: &str| std::fs::read_to_string(path.join("certs").join(name)).unwrap();
    let made = run(path, &["dev-certs", "--out", "certs", "--client", "admin"]);
    assert!(made.status.success(), "{made:?}");
    for (file, mode) in [("ca.pem", 0o644), ("server.key", 0o600), ("admin.key", 0o600)] {
        let metadata = std::fs::metadata(path.join("certs").join(file)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{file}");
    }
    // What is there stays, unless told otherwise.
    let before = read("server.key");
    let again = run(path, &["dev-certs", "--out", "certs"]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("--force"));
    assert_eq!(read("server.key"), before);
    assert!(
        run(path, &["dev-certs", "--out", "certs", "--client", "admin", "--force"])
            .status
            .success()
    );
    assert_ne!(read("server.key"), before);
    assert!(!run(path, &["dev-certs", "--out", "c", "--client", "../x"]).status.success());

    let token = run(path, &["token", "new", "--name", "chat"]);
    let said = String::from_utf8(token.stdout).unwrap();
    let (token, lines) = said.split_once('\n').unwrap();
    assert!(token.len() > 40 && !lines.contains(token));
    let admin = "\n[[caller]]\nname = \"admin\"\nmtls = [\"spiffe://rolegate.dev/admin\"]\n\
                 capabilities = [\"admin\"]\n";
    std::fs::write(path.join("callers.toml"), format!("{lines}{admin}")).unwrap();
    let server = Server::spawn(
        path,
        &[
            "serve",
            "--callers",
            "callers.toml",
            "--tls-cert",
            "certs/server.pem",
            "--tls-key",
            "certs/server.key",
            "--tls-client-ca",
            "certs/ca.pem",
            "--grpc-addr",
            "127.0.0.1:0",
            "--log-format",
            "json",
        ],
    )
    .unwrap();
    let pair = Pair { certificate: read("admin.pem"), key: read("admin.key") };
    let admin = connect(&server.address, &read("ca.pem"), Some(&pair)).await.unwrap();
    let request = pb::CreateTenantRequest {
        tenant_id: "acme".into(),
        catalog_id: "qpien".into(),
        owner_member_id: "olivia".into(),
        ..Default::default()
    };
    TenantServiceClient::new(admin).create_tenant(request).await.unwrap();
    let chat = connect(&server.address, &read("ca.pem"), None).await.unwrap();
    check(&chat, Some(token)).await.unwrap();
    // A stranger learns whether it serves, and nothing else.
    is_nobody(check(&chat, None).await);
    HealthClient::new(chat).check(HealthCheckRequest::default()).await.unwrap();
    assert!(!server.log().contains(token), "the token is in the log");
}

#[test]
fn a_server_that_could_be_overheard_or_knows_nobody_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let hash = super::setup::hash("t");
    let good = format!(
        "[[caller]]\nname = \"a\"\ntoken_sha256 = [\"{hash}\"]\ncapabilities = [\"read\"]\n"
    );
    std::fs::write(path.join("good.toml"), &good).unwrap();
    std::fs::write(path.join("bad.toml"), good.replace("read", "reed")).unwrap();
    let keys = format!(
        "[[jwt]]\nname = \"i\"\nissuer = \"i\"\naudience = \"a\"\nalgorithms = [\"ES256\"]\n\
         jwks_file = \"none.json\"\n{good}"
    );
    std::fs::write(path.join("keys.toml"), keys).unwrap();
    assert!(run(path, &["dev-certs", "--out", "certs"]).status.success());
    std::fs::copy(path.join("certs/chat.key"), path.join("other.key")).unwrap();
    let here = ["--grpc-addr", "127.0.0.1:0"];
    let everywhere = ["--grpc-addr", "0.0.0.0:0"];
    for (arguments, message) in [
        ([&here[..], &[]].concat(), "--callers"),
        ([&here[..], &["--callers", "good.toml", "--dev"]].concat(), "--dev"),
        ([&everywhere[..], &["--dev"]].concat(), "loopback"),
        ([&everywhere[..], &["--callers", "good.toml"]].concat(), "--insecure-plaintext"),
        ([&here[..], &["--callers", "bad.toml"]].concat(), "line 4: capabilities of caller"),
        ([&here[..], &["--callers", "none.toml"]].concat(), "none.toml cannot be read"),
        ([&here[..], &["--callers", "keys.toml"]].concat(), "none.json cannot be read"),
        (
            [
                &here[..],
                &[
                    "--callers",
                    "good.toml",
                    "--tls-cert",
                    "certs/server.pem",
                    "--tls-key",
                    "other.key",
                ],
            ]
            .concat(),
            "do not go together",
        ),
        (
            [
                &here[..],
                &[
                    "--callers",
                    "good.toml",
                    "--tls-cert",
                    "certs/server.key",
                    "--tls-key",
                    "certs/server.key",
                ],
            ]
            .concat(),
            "has no certificate",
        ),
        (
            [&here[..], &["--callers", "good.toml", "--tls-cert", "certs/server.pem"]].concat(),
            "--tls-key",
        ),
    ] {
        let arguments = [&["serve"], arguments.as_slice()].concat();
        let output = run(path, &arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(stderr.contains(message), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("PRIVATE KEY"), "{stderr}");
    }
}

/// Adds callers beside those that were there, as a whole or not at all.
#[test]
fn a_token_goes_to_its_file_and_its_caller_to_the_callers_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap_or_default();
    let mode =
        |name: &str| std::fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
    let new = |name: &str, more: &[&str]| {
        let made = run(path, &[&["token", "new", "--name", name][..], more].concat());
        let said = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (made.status.success(), said(made.stdout), said(made.stderr))
    };
    let both = ["--append", "callers.toml", "--token-file", "chat.token"];
    assert_eq!(new("chat", &both), (true, String::new(), String::new()));
    let (first, token) = (read("callers.toml"), read("chat.token"));
    assert!(first.starts_with("[[caller]]\nname = \"chat\"\n") && token.starts_with("rolegate_"));
    assert!(!first.contains(token.trim()));
    assert_eq!((mode("callers.toml"), mode("chat.token")), (0o600, 0o600));

    // A name that is there, a token file that is there, a file that is not sound: nothing changes.
    for (name, append, file, said) in [
        ("chat", "callers.toml", "other.token", "chat"),
        ("mail", "callers.toml", "chat.token", "give it another name"),
        ("mail", "broken.toml", "other.token", "broken.toml is not sound"),
        ("mail", "none/callers.toml", "other.token", "cannot be written"),
    ] {
        std::fs::write(path.join("broken.toml"), "[[caller]").unwrap();
        let (done, _, error) = new(name, &["--append", append, "--token-file", file]);
        assert!(!done && error.contains(said), "{error}");
        assert_eq!((read("callers.toml"), read("chat.token")), (first.clone(), token.clone()));
        assert_eq!((read("broken.toml").as_str(), read("other.token").as_str()), ("[[caller]", ""));
    }

    // The file keeps its mode, a link to it stays, and what was not asked for comes out.
    std::fs::set_permissions(path.join("callers.toml"), std::fs::Permissions::from_mode(0o640))
        .unwrap();
    // Whoever may give files away finds the owner kept too.
    std::os::unix::fs::chown(path.join("callers.toml"), Some(65_532), None).ok();
    let owner = |name: &str| std::fs::metadata(path.join(name)).unwrap().uid();
    let before = owner("callers.toml");
    std::os::unix::fs::symlink("callers.toml", path.join("link.toml")).unwrap();
    let (done, said, _) = new("mail", &["--append", "link.toml", "--capabilities", "check,read"]);
    assert!(done && said.starts_with("rolegate_") && said.lines().count() == 1, "{said}");
    let second = read("callers.toml");
    assert_eq!((mode("callers.toml"), owner("callers.toml")), (0o640, before));
    assert!(std::fs::symlink_metadata(path.join("link.toml")).unwrap().is_symlink());
    assert!(second.starts_with(&format!("{first}\n[[caller]]\nname = \"mail\"\n")), "{second}");
    assert!(second.ends_with("capabilities = [\"check\", \"read\"]\n"), "{second}");
    // A change that somebody else makes, or broke off, is not overwritten.
    std::fs::write(path.join("callers.toml.new"), "").unwrap();
    let (done, _, error) = new("crm", &["--append", "callers.toml", "--token-file", "crm.token"]);
    assert!(!done && error.contains("callers.toml.new is there already"), "{error}");
    assert_eq!((read("callers.toml"), read("crm.token").as_str()), (second, ""));
    let (done, said, _) = new("ticketing", &["--token-file", "ticketing.token"]);
    assert!(done && said.starts_with("[[caller]]\nname = \"ticketing\"\n"), "{said}");
}
