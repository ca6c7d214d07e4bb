//! Files that change under a running server.

use super::setup::{Pair, Place, check, connect, eventually, hash, is_nobody, metric};

fn caller(name: &str, token: &str, capability: &str) -> String {
    format!(
        "[[caller]]\nname = \"{name}\"\ntoken_sha256 = [\"{}\"]\ncapabilities = [\"{capability}\"]\n",
        hash(token)
    )
}

const FAILING: &str = "rolegate_reload_failing{what=\"callers\"}";

#[tokio::test]
async fn another_callers_file_counts_and_a_broken_one_does_not() {
    let place = Place::new(&caller("chat", "first", "check"));
    let server = place.start(&[]);
    let channel = place.connect(&server, None).await.unwrap();
    check(&channel, Some("first")).await.unwrap();
    is_nobody(check(&channel, Some("second")).await);

    for broken in ["[[caller]]\nname = 1", "not toml at all", ""] {
        place.write("callers.toml", broken);
        eventually("noticing", async || metric(&server, FAILING).await == Some(1.0)).await;
        check(&channel, Some("first")).await.unwrap();
        place.write("callers.toml", &caller("chat", "first", "check"));
        eventually("mending", async || metric(&server, FAILING).await == Some(0.0)).await;
    }
    std::fs::remove_file(place.path().join("callers.toml")).unwrap();
    eventually("noticing", async || metric(&server, FAILING).await == Some(1.0)).await;
    check(&channel, Some("first")).await.unwrap();

    // A revoked token is of no use on the connection that it was used on, either.
    place.write("callers.toml", &caller("chat", "second", "check"));
    eventually("the change", async || check(&channel, Some("second")).await.is_ok()).await;
    is_nobody(check(&channel, Some("first")).await);

    place.write("callers.toml", &caller("chat", "second", "read"));
    let denied = async || {
        check(&channel, Some("second"))
            .await
            .is_err_and(|status| status.code() == tonic::Code::PermissionDenied)
    };
    eventually("the loss of a capability", denied).await;
}

/// One deployment takes a caller away and names a key set that arrives a little later.
#[tokio::test]
async fn a_file_that_waits_for_its_keys_counts_once_they_are_there() {
    let place = Place::new(&caller("chat", "first", "check"));
    let server = place.start(&[]);
    let channel = place.connect(&server, None).await.unwrap();
    check(&channel, Some("first")).await.unwrap();

    let issuer = "[[jwt]]\nname = \"idp\"\nissuer = \"https://idp\"\naudience = \"rolegate\"\n\
                  algorithms = [\"EdDSA\"]\njwks_file = \"later.json\"\n\
                  [[caller]]\nname = \"desk\"\njwt = [{ provider = \"idp\", subject = \"desk\" }]\n\
                  capabilities = [\"check\"]\n";
    let keys = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "use": "sig",
                   "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    place.write("callers.toml", &format!("{issuer}\n{}", caller("chat", "second", "check")));
    eventually("noticing", async || metric(&server, FAILING).await == Some(1.0)).await;
    check(&channel, Some("first")).await.unwrap();

    place.write("later.json", keys);
    eventually("the keys", async || check(&channel, Some("second")).await.is_ok()).await;
    is_nobody(check(&channel, Some("first")).await);
    assert_eq!(metric(&server, FAILING).await, Some(0.0));
}

#[tokio::test]
async fn another_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let place = Place::new(&caller("chat", "t", "check"));
    let server = place.start(&[]);
    let channel = place.connect(&server, None).await.unwrap();
    check(&channel, Some("t")).await.unwrap();

    let failing = "rolegate_reload_failing{what=\"certificates\"}";
    let next = super::setup::Authority::new();
    let Pair { certificate, key } = next.server();
    // Halfway: they do not go together.
    place.write("server.pem", &certificate);
    eventually("noticing", async || metric(&server, failing).await == Some(1.0)).await;
    let still = place.connect(&server, None).await.unwrap();
    check(&still, Some("t")).await.unwrap();

    place.write("server.key", &key);
    eventually("the change", async || metric(&server, failing).await == Some(0.0)).await;
    for channel in [&channel, &still] {
        check(channel, Some("t")).await.unwrap();
    }
    assert!(place.connect(&server, None).await.is_err(), "it shows the old certificate");
    let new = connect(&server.address, &next.pem, None).await.unwrap();
    check(&new, Some("t")).await.unwrap();
}

/// Opening or reading a FIFO does not end, and neither does it on a network mount that hangs.
#[tokio::test]
async fn a_file_that_would_block_does_not_end_reloading() {
    let place = Place::new(&caller("chat", "first", "check"));
    let server = place.start(&[]);
    let channel = place.connect(&server, None).await.unwrap();
    check(&channel, Some("first")).await.unwrap();

    let file = place.path().join("callers.toml");
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    eventually("noticing", async || metric(&server, FAILING).await == Some(1.0)).await;
    let age = "rolegate_reload_age_seconds{what=\"callers\"}";
    eventually("the age", async || metric(&server, age).await > Some(3.0)).await;
    let certificates = "rolegate_reload_age_seconds{what=\"certificates\"}";
    assert!(metric(&server, certificates).await < Some(60.0), "certificates are looked at");
    check(&channel, Some("first")).await.unwrap();

    // Put back without the token.
    std::fs::remove_file(&file).unwrap();
    place.write("callers.toml", &caller("chat", "second", "check"));
    eventually("the change", async || check(&channel, Some("second")).await.is_ok()).await;
    is_nobody(check(&channel, Some("first")).await);
    assert_eq!(metric(&server, FAILING).await, Some(0.0));
    eventually("looking", async || metric(&server, age).await <= Some(2.0)).await;
}

#[tokio::test]
async fn a_callers_file_that_anybody_may_write_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::new(&caller("chat", "first", "check"));
    let file = place.path().join("callers.toml");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let server = place.start(&[]);
    let warned = async || server.log().contains("may write the callers file");
    eventually("the warning", warned).await;
}
