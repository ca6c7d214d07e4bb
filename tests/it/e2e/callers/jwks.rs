//! Keys that an issuer gives at a URL: asked for, kept, replaced, and what becomes of bad answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::jwt::{Signer, callers};
use super::setup::{Authority, DAY, Pair, Place, check, eventually, hash, is_nobody, metric};

/// The least time between two questions for the sake of unknown keys.
const LEAST: Duration = Duration::from_secs(10);
const FAILING: &str = "rolegate_reload_failing{what=\"keys\"}";

/// What an issuer answers.
#[derive(Clone)]
enum Answer {
    /// Whatever this is, as it stands.
    Text(String),
    /// The beginning of something, and no end.
    Slow,
}

impl Answer {
    fn keys(signer: &Signer) -> Self {
        Answer::ok(&signer.keys())
    }

    fn ok(body: &str) -> Self {
        let length = body.len();
        Answer::Text(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"))
    }
}

/// An issuer's server.
#[derive(Clone)]
struct Idp {
    url: String,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<Mutex<Vec<Instant>>>,
}

impl Idp {
    async fn start(answer: Answer, tls: Option<TlsAcceptor>) -> Idp {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://127.0.0.1:{}/keys", listener.local_addr().unwrap().port());
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::default());
        let idp = Idp { url, answer, asked };
        let serving = idp.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (idp, tls) = (serving.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => idp.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                idp.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        idp
    }

    async fn serve(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        assert!(request.starts_with(b"GET /keys HTTP/1.1\r\n"), "{request:?}");
        self.asked.lock().unwrap().push(Instant::now());
        let answer = self.answer.lock().unwrap().clone();
        match answer {
            // Whoever has seen enough does not read on.
            Answer::Text(text) => drop(stream.write_all(text.as_bytes()).await),
            Answer::Slow => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{").await.unwrap();
                tokio::time::sleep(DAY).await;
            }
        }
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[tokio::test]
async fn keys_of_a_url_are_kept_replaced_and_outlive_a_failure() {
    let [first, second, third] = ["first", "second", "third"].map(Signer::new);
    let idp = Idp::start(Answer::keys(&first), None).await;
    let url = format!("jwks_url = \"{}\"", idp.url);
    let place = Place::new(&callers(&url, "check"));
    let server = place.start(&[]);
    let channel = place.connect(&server, None).await.unwrap();
    let ask = async |signer: &Signer| check(&channel, Some(&signer.token(DAY))).await;
    eventually("the first keys", async || ask(&first).await.is_ok()).await;

    // Known keys ask nobody, and unknown ones not so soon after the last time.
    for _ in 0..20 {
        ask(&first).await.unwrap();
        is_nobody(ask(&second).await);
    }
    assert_eq!(idp.asked(), 1);
    idp.answers(Answer::keys(&second));
    eventually("the second key", async || ask(&second).await.is_ok()).await;
    // What is not there any more does not count any more.
    is_nobody(ask(&first).await);
    assert_eq!(metric(&server, FAILING).await, Some(0.0));

    idp.answers(Answer::Text("HTTP/1.1 503 Oh no\r\ncontent-length: 0\r\n\r\n".to_owned()));
    let failing = async || {
        is_nobody(ask(&third).await);
        metric(&server, FAILING).await == Some(1.0)
    };
    eventually("the failure", failing).await;
    ask(&second).await.unwrap();
    let log = server.log();
    assert!(log.contains(&format!("{}: the answer is 503", idp.url)), "{log}");

    idp.answers(Answer::keys(&third));
    eventually("the third key", async || ask(&third).await.is_ok()).await;
    assert_eq!(metric(&server, FAILING).await, Some(0.0));
    // However many unknown keys came.
    let asked = idp.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 4);
    for pair in asked.windows(2) {
        assert!(pair[1] - pair[0] >= LEAST - Duration::from_millis(500), "{asked:?}");
    }
}

fn https(Pair { certificate, key }: &Pair) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

/// Each is told in the log, nobody gets in by it, and callers who prove themselves otherwise are
/// served all the while.
#[tokio::test]
async fn a_bad_answer_is_given_up_and_said() {
    let signer = Signer::new("key");
    let good = Idp::start(Answer::keys(&signer), None).await;
    let redirect =
        format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", good.url);
    let large = format!("{{\"keys\": [\"{}\"]}}", "x".repeat(300 << 10));
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(8 << 20));
    let heads = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(8 << 20));
    let bad = [
        (Answer::Text(redirect), "the answer is 302"),
        (Answer::ok(&large), "the answer is too large"),
        (Answer::Text(endless), "the answer is too large"),
        (Answer::Text(heads), "the request failed"),
        (Answer::Slow, "no answer within 5s"),
        (Answer::ok("<html>"), "the answer is no JWK set"),
        (Answer::ok("{\"keys\": []}"), "the answer has no public key"),
        (Answer::Text(String::new()), "the request failed"),
    ];
    let place = Place::new("");
    let mut file = format!(
        "[[caller]]\nname = \"other\"\ntoken_sha256 = [\"{}\"]\ncapabilities = [\"check\"]\n",
        hash("a-token")
    );
    let mut issuer = |number: usize, idp: &Idp, more: &str| {
        let keys = format!("jwks_url = \"{}\"\n{more}", idp.url);
        // Each an issuer, with a caller, of its own.
        let one = callers(&keys, "check").replace("\"idp\"", &format!("\"idp{number}\""));
        file += &one.replace("name = \"desk\"", &format!("name = \"desk{number}\""));
    };
    let mut expected = Vec::new();
    for (number, (answer, says)) in bad.into_iter().enumerate() {
        let idp = Idp::start(answer, None).await;
        issuer(number, &idp, "");
        expected.push(format!("{}: {says}", idp.url));
    }
    // The right keys from somebody whom nobody vouches for.
    let stranger = Idp::start(Answer::keys(&signer), Some(https(&Authority::new().server()))).await;
    issuer(98, &stranger, "jwks_ca_file = \"ca.pem\"");
    expected.push(format!("{}: TLS: ", stranger.url));
    let vouched = Idp::start(Answer::keys(&signer), Some(https(&place.authority.server()))).await;
    issuer(99, &vouched, "jwks_ca_file = \"ca.pem\"");
    place.write("callers.toml", &file);

    let server = place.start(&[]);
    let channel = place.connect(&server, None).await.unwrap();
    let told = async || {
        check(&channel, Some("a-token")).await.unwrap();
        let log = server.log();
        expected.iter().all(|said| log.contains(said))
    };
    eventually("being told of each", told).await;
    assert_eq!(good.asked(), 0, "a redirect was followed");
    assert_eq!((stranger.asked(), vouched.asked()), (0, 1));
    assert_eq!(server.log().matches("a key set\"").count() - 1, expected.len());
}
