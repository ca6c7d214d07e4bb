//! Mutual TLS: which certificates let somebody in, and for how long.

use std::time::SystemTime;

use rcgen::{ExtendedKeyUsagePurpose, SanType};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};

use super::setup::{
    Authority, DAY, Place, Wanted, check, connect, eventually, hash, is_nobody, metric,
};

const CHAT: &str = "spiffe://test/chat";

fn callers() -> String {
    format!(
        "[[caller]]\nname = \"chat\"\nmtls = [\"{CHAT}\", \"dns:chat.internal\"]\n\
         capabilities = [\"check\"]\n\
         [[caller]]\nname = \"other\"\ntoken_sha256 = [\"{}\"]\ncapabilities = [\"check\"]\n",
        hash("a-token")
    )
}

#[tokio::test]
async fn only_a_certificate_that_holds_and_has_a_callers_name_lets_in() {
    let place = Place::new(&callers());
    let server = place.start(&[]);
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let sign =
        |sans: Vec<SanType>, usage, until| place.authority.sign(Wanted { sans, usage, until });
    let uri = |uri: &str| vec![SanType::URI(uri.try_into().unwrap())];
    let dns = |name: &str| vec![SanType::DnsName(name.try_into().unwrap())];
    let later = SystemTime::now() + DAY;

    for good in [uri(CHAT), dns("CHAT.internal"), [uri("spiffe://test/x"), uri(CHAT)].concat()] {
        let channel = place.connect(&server, Some(&sign(good, client.clone(), later))).await;
        check(&channel.unwrap(), None).await.unwrap();
    }
    // Of the right authority, but nobody's.
    for nobodys in [uri("spiffe://test/chat2"), dns("chat.internal.example"), Vec::new()] {
        let pair = sign(nobodys, client.clone(), later);
        let channel = place.connect(&server, Some(&pair)).await.unwrap();
        is_nobody(check(&channel, None).await);
        check(&channel, Some("a-token")).await.unwrap();
    }
    // Two proofs of two callers.
    let pair = place.authority.client(CHAT);
    let channel = place.connect(&server, Some(&pair)).await.unwrap();
    is_nobody(check(&channel, Some("a-token")).await);
    // No certificate: a token is as good, and nothing else is.
    let bare = place.connect(&server, None).await.unwrap();
    is_nobody(check(&bare, None).await);
    check(&bare, Some("a-token")).await.unwrap();
    // Certificates that do not hold get no connection at all. With TLS 1.3 the client only hears of
    // that when it first reads.
    for (what, pair) in [
        ("expired", sign(uri(CHAT), client.clone(), SystemTime::now() - DAY)),
        ("another authority's", Authority::new().client(CHAT)),
        ("a server's", sign(uri(CHAT), ExtendedKeyUsagePurpose::ServerAuth, later)),
    ] {
        if let Ok(channel) = place.connect(&server, Some(&pair)).await {
            let status = check(&channel, Some("a-token")).await.expect_err(what);
            assert_ne!(status.code(), tonic::Code::Unauthenticated, "{what}: {status:?}");
        }
    }
    // Plain HTTP/2 on the same port is nothing.
    assert!(check_plain(&server.address).await.is_err());
}

async fn check_plain(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?;
    let channel = endpoint.timeout(super::setup::PATIENCE).connect().await?;
    Ok(check(&channel, Some("a-token")).await?)
}

#[tokio::test]
async fn a_connection_ends_when_its_authority_is_taken_away_and_others_go_on() {
    let place = Place::new(&callers());
    let server = place.start(&[]);
    let pair = place.authority.client(CHAT);
    let old = place.connect(&server, Some(&pair)).await.unwrap();
    check(&old, None).await.unwrap();
    let bare = place.connect(&server, None).await.unwrap();
    check(&bare, Some("a-token")).await.unwrap();

    // Both authorities: nobody notices.
    let next = Authority::new();
    place.write("ca.pem", &format!("{}{}", place.authority.pem, next.pem));
    let done = "rolegate_reloads_total{what=\"certificates\",outcome=\"done\"}";
    eventually("the reload", async || metric(&server, done).await == Some(1.0)).await;
    check(&old, None).await.unwrap();
    let next_pair = next.client(CHAT);
    let new = place.connect(&server, Some(&next_pair)).await.unwrap();
    check(&new, None).await.unwrap();

    // Only the next one. The client would connect again by itself, and is kept out.
    place.write("ca.pem", &next.pem);
    eventually("the end", async || check(&old, None).await.is_err()).await;
    for _ in 0..3 {
        assert!(check(&old, None).await.is_err());
    }
    check(&new, None).await.unwrap();
    check(&bare, Some("a-token")).await.unwrap();
}

/// From another address than the test's own clients.
async fn silent(server: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    socket.connect(server.parse().unwrap()).await.unwrap()
}

#[tokio::test]
async fn whoever_dawdles_in_the_handshake_holds_up_nobody() {
    let place = Place::new(&callers());
    let server = place.start(&[]);
    let mut idle = Vec::new();
    // More than there may be handshakes on all connections.
    for _ in 0..300 {
        idle.push(silent(&server.address).await);
    }
    let channel = place.connect(&server, None).await.unwrap();
    check(&channel, Some("a-token")).await.unwrap();
    // It did not wait until they were given up.
    let timed_out = "rolegate_tls_handshakes_total{outcome=\"timed_out\"}";
    assert_eq!(metric(&server, timed_out).await, Some(0.0));
    // More at once than have a turn, which take turns.
    let mut many = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (pem, address) = (place.authority.pem.clone(), server.address.clone());
        many.spawn(async move { connect(&address, &pem, None).await.unwrap() });
    }
    for channel in many.join_all().await {
        check(&channel, Some("a-token")).await.unwrap();
    }
    // Given up in the end.
    let mut first = idle.swap_remove(0);
    let read = tokio::time::timeout(super::setup::PATIENCE, first.read_u8()).await;
    assert!(read.expect("it was held for longer than a handshake may take").is_err());
    eventually("all of them", async || metric(&server, timed_out).await == Some(300.0)).await;
    check(&channel, Some("a-token")).await.unwrap();
}
