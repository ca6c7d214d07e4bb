//! Certificates of any kind, servers with TLS and a callers file, and clients for them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rolegate::grpc::pb;
use rolegate::grpc::pb::authz_service_client::AuthzServiceClient;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::e2e::process::{MARK, Server};

pub(in crate::e2e) const PATIENCE: Duration = Duration::from_secs(90);
pub(in crate::e2e) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub(in crate::e2e) struct Pair {
    pub(in crate::e2e) certificate: String,
    pub(in crate::e2e) key: String,
}

/// What a certificate is to say.
pub(in crate::e2e) struct Wanted {
    pub(in crate::e2e) sans: Vec<SanType>,
    pub(in crate::e2e) usage: ExtendedKeyUsagePurpose,
    pub(in crate::e2e) until: SystemTime,
}

/// An authority.
pub(in crate::e2e) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(in crate::e2e) pem: String,
}

impl Authority {
    pub(in crate::e2e) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    pub(in crate::e2e) fn sign(&self, wanted: Wanted) -> Pair {
        let mut params = CertificateParams::default();
        params.not_before = (SystemTime::now() - 2 * DAY).into();
        params.not_after = wanted.until.into();
        params.subject_alt_names = wanted.sans;
        params.extended_key_usages = vec![wanted.usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    pub(in crate::e2e) fn server(&self) -> Pair {
        self.sign(Wanted {
            sans: vec![SanType::IpAddress([127, 0, 0, 1].into())],
            usage: ExtendedKeyUsagePurpose::ServerAuth,
            until: SystemTime::now() + DAY,
        })
    }

    /// For a caller with this URI.
    pub(in crate::e2e) fn client(&self, uri: &str) -> Pair {
        self.sign(Wanted {
            sans: vec![SanType::URI(uri.try_into().unwrap())],
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            until: SystemTime::now() + DAY,
        })
    }
}

/// The token that goes by this name in a test: one that is found in a log by its mark.
pub(in crate::e2e) fn token(name: &str) -> String {
    // Of `rolegate token new`, or an issuer's.
    let is_real = name.starts_with("rolegate_") || name.starts_with("eyJ");
    if is_real { name.to_owned() } else { format!("{MARK}{name}") }
}

/// As it stands in a callers file.
pub(in crate::e2e) fn hash(name: &str) -> String {
    Sha256::digest(token(name)).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Everything that a server with TLS and callers takes, in a directory.
pub(in crate::e2e) struct Place {
    pub(in crate::e2e) directory: tempfile::TempDir,
    pub(in crate::e2e) authority: Authority,
}

impl Place {
    pub(in crate::e2e) fn new(callers: &str) -> Self {
        let place = Place { directory: tempfile::tempdir().unwrap(), authority: Authority::new() };
        let Pair { certificate, key } = place.authority.server();
        place.write("server.pem", &certificate);
        place.write("server.key", &key);
        place.write("ca.pem", &place.authority.pem);
        place.write("callers.toml", callers);
        place
    }

    pub(in crate::e2e) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(in crate::e2e) fn write(&self, name: &str, text: &str) {
        // As careful people do, so that nobody reads half of it.
        let half = self.path().join(format!("{name}.half"));
        std::fs::write(&half, text).unwrap();
        std::fs::rename(half, self.path().join(name)).unwrap();
    }

    pub(in crate::e2e) fn start(&self, more: &[&str]) -> Server {
        let mut arguments =
            vec!["serve", "--callers", "callers.toml", "--grpc-addr", "127.0.0.1:0"];
        arguments.extend(["--tls-cert", "server.pem", "--tls-key", "server.key"]);
        arguments.extend(["--tls-client-ca", "ca.pem", "--log-format", "json"]);
        arguments.extend(["--admin-addr", "127.0.0.1:0"]);
        arguments.extend(more);
        Server::spawn(self.path(), &arguments).unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// A connection, with or without a client certificate.
    pub(in crate::e2e) async fn connect(
        &self,
        server: &Server,
        pair: Option<&Pair>,
    ) -> Result<Channel, tonic::transport::Error> {
        connect(&server.address, &self.authority.pem, pair).await
    }
}

/// A client's side of TLS that trusts this authority.
pub(in crate::e2e) fn client_config(authority: &str, pair: Option<&Pair>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match pair {
        None => builder.with_no_client_auth(),
        Some(Pair { certificate, key }) => {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    }
}

pub(in crate::e2e) async fn connect(
    address: &str,
    authority: &str,
    pair: Option<&Pair>,
) -> Result<Channel, tonic::transport::Error> {
    let mut config = client_config(authority, pair);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    // Whatever stands in the URI, this is where it goes.
    let place = address.to_owned();
    let connect = tower::service_fn(move |_: http::Uri| {
        let (connector, place) = (connector.clone(), place.clone());
        async move {
            let stream = TcpStream::connect(place).await?;
            let name = ServerName::try_from("127.0.0.1").unwrap();
            std::io::Result::Ok(TokioIo::new(connector.connect(name, stream).await?))
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.timeout(PATIENCE).connect_with_connector(connect).await
}

/// A request with a token.
pub(in crate::e2e) fn tokened<M>(name: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {}", token(name));
    request.metadata_mut().insert("authorization", bearer.parse().unwrap());
    request
}

/// A check in a tenant that need not be there; a caller that may ask gets an answer.
pub(in crate::e2e) async fn check(channel: &Channel, token: Option<&str>) -> Result<(), Status> {
    let request = pb::CheckRequest {
        tenant_id: "acme".into(),
        member_id: "kim".into(),
        permission: "chat.view".into(),
        ..Default::default()
    };
    let request = match token {
        Some(token) => tokened(token, request),
        None => Request::new(request),
    };
    AuthzServiceClient::new(channel.clone()).check(request).await.map(drop)
}

/// Whether a call was refused as one of nobody, with the one reason for that.
#[track_caller]
pub(in crate::e2e) fn is_nobody(result: Result<(), Status>) {
    let status = result.expect_err("it was let in");
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.metadata.len()), ("CALLER_UNAUTHENTICATED", 0));
}

/// Tries until it works or too much time has passed. Reloading takes seconds.
pub(in crate::e2e) async fn eventually<F: AsyncFnMut() -> bool>(what: &str, mut works: F) {
    let until = Instant::now() + PATIENCE;
    while !works().await {
        assert!(Instant::now() < until, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A number out of the server's metrics; none without the line.
pub(in crate::e2e) async fn metric(server: &Server, line: &str) -> Option<f64> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = TcpStream::connect(server.admin.as_ref().unwrap()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let found = text.lines().find_map(|found| found.strip_prefix(line));
    found.map(|value| value.trim().parse().unwrap())
}
