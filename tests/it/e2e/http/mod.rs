//! The admin port: what answers and what does not, and that nobody can keep others out.

pub(super) mod exposition;
mod health;
mod metrics;
mod tls;
mod warm_up;

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::exposition::Exposition;
use super::process::{Server, output};

struct Reply {
    status: u16,
    head: String,
    body: String,
}

async fn request(address: &str, method: &str, path: &str) -> Reply {
    request_with(address, method, path, "").await
}

/// The same with more headers.
async fn request_with(address: &str, method: &str, path: &str, headers: &str) -> Reply {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), exchange).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_lowercase(), body: body.to_owned() }
}

async fn get(address: &str, path: &str) -> Reply {
    request(address, "GET", path).await
}

/// What is there.
pub(crate) async fn page(address: &str, path: &str) -> String {
    get(address, path).await.body
}

pub(super) async fn scrape(address: &str) -> Exposition {
    let reply = get(address, "/metrics").await;
    assert_eq!(reply.status, 200);
    Exposition::parse(&reply.body)
}

fn start(directory: &Path, more: &[&str]) -> (Server, String) {
    let arguments: Vec<_> = ["--admin-addr", "127.0.0.1:0"].iter().chain(more).copied().collect();
    let server = Server::start(directory, &arguments);
    let admin = server.admin.clone().unwrap();
    (server, admin)
}

/// The exit code of `rolegate health`, and what it says.
fn health(address: &str) -> (Option<i32>, String) {
    let output = output(Path::new("/"), &["health", "--admin-addr", address]);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn each_path_answers_and_nothing_else_does() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, admin) = start(directory.path(), &[]);
    for (path, body) in [("/livez", "alive\n"), ("/readyz", "ready\n"), ("/readyz?full", "ready\n")]
    {
        let reply = get(&admin, path).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, body), "{path}");
        assert!(reply.head.contains("cache-control: no-store"), "{}", reply.head);
    }
    let version = get(&admin, "/version").await;
    assert_eq!(version.status, 200);
    let version: serde_json::Value = serde_json::from_str(&version.body).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert!(version["rustc"].as_str().unwrap().starts_with("1."), "{version}");
    assert!(version["schema"].as_str().unwrap().starts_with('m'), "{version}");
    assert!(version.get("commit").is_some(), "{version}");
    for path in ["/", "/metrics/", "/livez/x", "/Livez", "/../livez", "/debug/pprof"] {
        assert_eq!(get(&admin, path).await.status, 404, "{path}");
        assert_eq!(request(&admin, "POST", path).await.status, 404, "{path}");
    }
    for path in ["/livez", "/readyz", "/metrics", "/version"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            let reply = request(&admin, method, path).await;
            assert_eq!(reply.status, 405, "{method} {path}");
            assert!(reply.head.contains("allow: get, head"), "{}", reply.head);
        }
        let head = request(&admin, "HEAD", path).await;
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
    }
    assert_eq!(health(&admin), (Some(0), String::new()));
    let everywhere = admin.replace("127.0.0.1", "0.0.0.0");
    assert_eq!(health(&everywhere), (Some(0), String::new()));
}

#[test]
fn an_admin_port_that_cannot_be_is_refused_and_none_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let refused = Server::try_start(directory.path(), &["--admin-addr", &taken]);
    let Err(refused) = refused else { panic!("it started") };
    assert_eq!(refused.code, Some(1));
    for text in [taken.as_str(), "is taken", "--admin-addr"] {
        assert!(refused.stderr.contains(text), "{}", refused.stderr);
    }
    let refused = Server::try_start(directory.path(), &["--admin-addr", "localhost"]);
    let Err(refused) = refused else { panic!("it started") };
    assert!(refused.stderr.contains("`none`"), "{}", refused.stderr);
    let server = Server::start(directory.path(), &["--admin-addr", "none"]);
    assert_eq!(server.admin, None);
    let (code, said) = health("none");
    assert_eq!(code, Some(1));
    assert!(said.contains("--admin-addr"), "{said}");
}

/// Half a head of many clients, for as long as the test lasts: more than could be served one after the
/// other in the time that a probe is waited for here.
#[tokio::test]
async fn half_sent_requests_make_room_for_whole_ones() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, admin) = start(directory.path(), &[]);
    let mut halves = Vec::new();
    let whole = async {
        for _ in 0..480 {
            let mut stream = TcpStream::connect(&admin).await.unwrap();
            stream.write_all(b"GET /livez HTTP/1.1\r\nX-Slow: ").await.unwrap();
            halves.push(stream);
        }
        for path in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(get(&admin, path).await.status, 200, "{path}");
        }
    };
    // Before as many as are served at once can have run out of their five seconds in turn.
    tokio::time::timeout(Duration::from_secs(15), whole).await.unwrap();
}

/// As many connections as are served at a time, none of which says anything.
#[tokio::test]
async fn clients_that_say_nothing_do_not_keep_others_out() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, admin) = start(directory.path(), &[]);
    let mut idle = Vec::new();
    for number in 0..80 {
        let mut stream = TcpStream::connect(&admin).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET /livez HTTP/1.1\r\nX-Slow: ").await.unwrap();
        }
        idle.push(stream);
    }
    assert_eq!(get(&admin, "/livez").await.status, 200);
    let huge = format!("/livez?{}", "x".repeat(64 << 10));
    let mut stream = TcpStream::connect(&admin).await.unwrap();
    stream.write_all(format!("GET {huge} HTTP/1.1\r\n\r\n").as_bytes()).await.ok();
    let mut answer = Vec::new();
    // It may be cut off before the answer is read.
    stream.read_to_end(&mut answer).await.ok();
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}
