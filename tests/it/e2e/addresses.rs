//! Where a server listens: names, every address, Unix sockets; and flags as the environment gives them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use super::callers::setup::check;
use super::process::{Server, output, rolegate};

/// A connection over a Unix socket.
async fn connect(path: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = path.to_owned();
    let connect = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { std::io::Result::Ok(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connect).await
}

fn serve(directory: &Path, more: &[&str]) -> Result<Server, super::process::DidNotStart> {
    Server::spawn(directory, &[&["serve", "--dev", "--log-format", "json"], more].concat())
}

#[tokio::test]
async fn a_server_listens_on_unix_sockets_and_leaves_none_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (grpc, admin) = (directory.path().join("grpc.sock"), directory.path().join("admin.sock"));
    // One of them by a relative path.
    let address = format!("unix:{}", grpc.display());
    let arguments = ["--grpc-addr", &address, "--admin-addr", "unix:admin.sock"];
    let health = || output(directory.path(), &["health", "--admin-addr", "unix:admin.sock"]);

    // Loopback, as --dev asks for.
    let server = serve(directory.path(), &arguments).unwrap();
    assert_eq!(server.address, address);
    assert_eq!(server.admin.as_deref(), Some("unix:admin.sock"));
    for path in [&grpc, &admin] {
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660, "{}", path.display());
    }
    check(&connect(&grpc).await.unwrap(), None).await.unwrap();
    assert!(health().status.success());

    // It is there: another one leaves it alone.
    let Err(refused) = serve(directory.path(), &arguments) else { panic!("it started") };
    assert!(refused.stderr.contains("a server answers there"), "{}", refused.stderr);
    check(&connect(&grpc).await.unwrap(), None).await.unwrap();

    // It is gone, and its files are not.
    server.kill();
    assert!(grpc.exists() && admin.exists());
    assert!(!health().status.success());
    let server = serve(directory.path(), &arguments).unwrap();
    check(&connect(&grpc).await.unwrap(), None).await.unwrap();
    assert!(health().status.success());
    assert_eq!(server.terminate().await, Some(0));
    assert!(!grpc.exists() && !admin.exists());

    // What is no socket is somebody's.
    std::fs::write(&grpc, "precious").unwrap();
    let Err(refused) = serve(directory.path(), &arguments) else { panic!("it started") };
    assert!(refused.stderr.contains("no socket"), "{}", refused.stderr);
    assert_eq!(std::fs::read_to_string(&grpc).unwrap(), "precious");
}

#[tokio::test]
async fn a_server_listens_on_names_and_on_every_address() {
    let directory = tempfile::tempdir().unwrap();
    let named = ["--grpc-addr", "localhost:0", "--admin-addr", "localhost:0"];
    let server = serve(directory.path(), &named).unwrap();
    check(&server.channel().await, None).await.unwrap();
    let admin = server.admin.clone().unwrap();
    let port = admin.rsplit_once(':').unwrap().1;
    for address in [&*admin, &format!("localhost:{port}"), &format!(":{port}")] {
        let output = output(directory.path(), &["health", "--admin-addr", address]);
        assert!(output.status.success(), "{address}: {output:?}");
    }
    drop(server);
    // That is more than this machine.
    let Err(refused) = serve(directory.path(), &["--grpc-addr", ":0"]) else {
        panic!("it started")
    };
    assert!(refused.stderr.contains("loopback"), "{}", refused.stderr);
    let callers = directory.path().join("callers.toml");
    let caller = format!(
        "[[caller]]\nname = \"chat\"\ntoken_sha256 = [\"{}\"]\ncapabilities = [\"check\"]\n",
        super::callers::setup::hash("a-token")
    );
    std::fs::write(&callers, caller).unwrap();
    let every =
        ["serve", "--callers", "callers.toml", "--insecure-plaintext", "--log-format", "json"];
    let every = [&every[..], &["--grpc-addr", ":0"]].concat();
    let server = Server::spawn(directory.path(), &every).unwrap();
    let port = server.address.rsplit_once(':').unwrap().1;
    tokio::net::TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
}

#[test]
fn flags_without_a_value_take_what_people_write_in_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    // No such database: it ends at once, after all that is to be looked at here.
    let database = "sqlite:no/such/directory.db";
    let arguments = ["serve", "--grpc-addr", "127.0.0.1:0", "--database-url", database];
    let stderr = |dev: &str, more: &[&str]| {
        let mut command = rolegate(directory.path(), &[&arguments[..], more].concat());
        let output = command.env("ROLEGATE_DEV", dev).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    for yes in ["1", "true", "yes", "TRUE"] {
        let said = stderr(yes, &[]);
        assert!(said.contains("cannot be opened"), "{yes}: {said}");
    }
    for no in ["0", "false", "no"] {
        let said = stderr(no, &[]);
        assert!(said.contains("nobody could call"), "{no}: {said}");
        // Which is the same as without it.
        let said = stderr(no, &["--callers", "none.toml"]);
        assert!(said.contains("none.toml"), "{no}: {said}");
    }
    assert!(
        stderr("perhaps", &[]).contains("ROLEGATE_DEV") || stderr("perhaps", &[]).contains("--dev")
    );
    assert!(stderr("1", &["--callers", "none.toml"]).contains("leave one of them out"));
}

#[test]
fn the_help_of_health_is_about_asking() {
    let directory = tempfile::tempdir().unwrap();
    let help = output(directory.path(), &["health", "--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("Where the server answers health checks"), "{help}");
    assert!(!help.contains("Where to listen"), "{help}");
}
