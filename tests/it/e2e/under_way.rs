//! Calls of which only the beginning came: what is counted of them when their clients leave, and that
//! their connections are not idle.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::callers::setup::{eventually, metric};
use super::limits::{PREFACE, frame, head, say};
use super::process::Server;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

/// Answered from the bytes of the message, in bulk, and elsewhere.
const WAYS: [&str; 3] = [
    "rolegate.v1.AuthzService/Check",
    "rolegate.v1.AuthzService/BatchCheck",
    "rolegate.v1.TenantService/CreateTenant",
];

fn start(directory: &std::path::Path, more: &[&str]) -> Server {
    let common = ["serve", "--dev", "--demo", "--log-format", "json"];
    let ports = ["--grpc-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    Server::spawn(directory, &[&common[..], &ports, more].concat()).unwrap()
}

async fn ended(server: &Server, way: &str, code: &str) -> u64 {
    let line = format!("rolegate_rpcs_total{{method=\"{way}\",code=\"{code}\"}}");
    metric(server, &line).await.unwrap_or_default() as u64
}

#[tokio::test]
async fn whoever_leaves_before_the_message_has_come_is_counted_as_cancelled() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &[]);
    for way in WAYS {
        let path = format!("/{way}");
        let mut raw = say(&server, PREFACE).await;
        for (left, pause) in [0, 2, 60].into_iter().enumerate() {
            let stream = 2 * u32::try_from(left).unwrap() + 1;
            raw.write_all(&head(stream, &path, &[])).await.unwrap();
            tokio::time::sleep(Duration::from_millis(pause)).await;
            raw.write_all(&frame(RST_STREAM, 0, stream, &CANCEL)).await.unwrap();
            let counted = async || ended(&server, way, "CANCELLED").await == left as u64 + 1;
            eventually(&format!("{way}, reset after {pause} ms"), counted).await;
        }
        raw.write_all(&head(7, &path, &[])).await.unwrap();
        let open = format!("rolegate_rpcs_open{{method=\"{way}\"}}");
        let is_open = async |wanted| metric(&server, &open).await == Some(wanted);
        eventually("being under way", async || is_open(1.0).await).await;
        raw.shutdown().await.unwrap();
        eventually("the end", async || ended(&server, way, "CANCELLED").await == 4).await;
        assert!(is_open(0.0).await, "{way}");
        for code in ["OK", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "UNKNOWN", "INTERNAL"] {
            assert_eq!(ended(&server, way, code).await, 0, "{way}: {code}");
        }
    }
}

/// The kinds of frames of this stream up to the one that asks the client to go.
async fn until_asked_to_go(raw: &mut TcpStream, stream: u32) -> Vec<u8> {
    let mut kinds = Vec::new();
    loop {
        let mut head = [0; 9];
        raw.read_exact(&mut head).await.unwrap();
        let [a, b, c, kind, _, of @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        raw.read_exact(&mut payload).await.unwrap();
        if kind == GOAWAY {
            return kinds;
        }
        if u32::from_be_bytes(of) == stream {
            kinds.push(kind);
        }
    }
}

#[tokio::test]
async fn a_connection_with_a_call_that_takes_long_is_not_idle() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path(), &["--max-connection-idle", "1", "--request-timeout", "3"]);
    let mut waiting = tokio::task::JoinSet::new();
    for way in WAYS {
        let mut raw = say(&server, &[PREFACE, &head(1, &format!("/{way}"), &[])].concat()).await;
        waiting.spawn(async move {
            let before =
                tokio::time::timeout(Duration::from_secs(30), until_asked_to_go(&mut raw, 1));
            (way, before.await.expect("it is never asked to go"))
        });
    }
    while let Some(done) = waiting.join_next().await {
        let (way, before) = done.unwrap();
        assert!(before.contains(&HEADERS), "{way}: asked to go before its answer: {before:?}");
    }
}
