//! What is measured, group by group.

pub(crate) mod bulk;
pub(crate) mod life;
pub(crate) mod process;
pub(crate) mod scale;
pub(crate) mod stream;
pub(crate) mod unary;

use std::sync::Arc;

use prost::Message;
use rolegate::grpc::pb;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::contest::Rounds;
use crate::load::{self, Calls, Exchange, Shape, Target};
use crate::servers::Server;
use crate::setup::{Clients, Place};
use rolegate_bench::Failure;
use rolegate_bench::workload::{CHECK, People, Random, framed};

/// Who is asked about: 100 tenants of 100 members.
pub(crate) const PEOPLE: People = People { first: 0, tenants: 100, members: 100 };
/// How many different questions are asked.
const QUESTIONS: usize = 8_192;

/// The servers, side by side on one core, with a warm cache and questions to ask.
pub(crate) struct Scene {
    pub(crate) place: Place,
    pub(crate) plain: Server,
    pub(crate) tls: Server,
    pub(crate) echo_default: Server,
    pub(crate) echo_tuned: Server,
    pub(crate) rounds: Rounds,
    tls_client: Arc<rustls::ClientConfig>,
    /// Checks, and the same bytes there and back for an echo.
    pub(crate) checks: Vec<Exchange>,
    pub(crate) payloads: Vec<Exchange>,
    /// How many of the checks are allowed, of 100.
    pub(crate) allowed: usize,
}

impl Scene {
    /// Starts the servers, makes the tenants, and asks everything once.
    pub(crate) fn set(place: Place, rounds: Rounds) -> Result<Self, Failure> {
        let plain = place.serve("plain", "bench.db", &[])?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            Clients::connect(plain.address, &place.token).await?.make(PEOPLE).await
        })?;
        let tls = place.serve_tls("tls", "bench.db")?;
        let tls_client = Arc::new(tls_client(&place)?);

        let mut random = Random(1);
        let asked: Vec<_> = (0..QUESTIONS).map(|_| PEOPLE.question(&mut random)).collect();
        let allowed = asked.iter().filter(|asked| asked.allowed).count() * 100 / QUESTIONS;
        let target = |server: &Server, tls| Target {
            address: server.address,
            tls,
            path: CHECK,
            token: Some(&place.token),
            calls: Calls::Unary,
        };
        let questions: Vec<_> = asked.iter().map(|asked| framed(&asked.check())).collect();
        // Nobody is asked about for the first time while it counts.
        let mut everyone = Vec::new();
        for tenant in 0..PEOPLE.tenants {
            for member in 0..PEOPLE.members {
                everyone.push(framed(&PEOPLE.question_of(tenant, member, &mut random).check()));
            }
        }
        // Once is not enough: some of those that were read are read again the next time.
        for _ in 0..3 {
            load::ask(&target(&plain, None), Shape::closed(1, 1), &everyone)?;
        }
        let expected: Vec<_> = asked.iter().map(|asked| asked.allowed).collect();
        let checks = learn(&target(&plain, None), &questions, |place, answer| {
            let answer = pb::CheckResponse::decode(answer)?;
            let verdict = answer.decision.map(|decision| decision.verdict());
            let wanted = if expected[place] { pb::Verdict::Allowed } else { pb::Verdict::Denied };
            if verdict == Some(wanted) { Ok(()) } else { Err(format!("{verdict:?}").into()) }
        })?;
        // Warm as well, and of the same mind.
        load::ask(&target(&tls, Some(Arc::clone(&tls_client))), Shape::closed(4, 8), &questions)?;

        let reply = checks.iter().map(|check| check.answer.len()).sum::<usize>() / checks.len();
        // The head of a message, and of its only field.
        let reply = reply - 5 - 3;
        let echo_default = Server::echo(&place.plain, place.path(), "echo-default", reply)?;
        let echo_tuned =
            Server::echo(&std::env::current_exe()?, place.path(), "echo-tuned", reply)?;
        let payloads = checks.iter().map(|check| payload(check.question.len() - 5 - 3, reply));
        let payloads = payloads.collect();
        Ok(Scene {
            place,
            plain,
            tls,
            echo_default,
            echo_tuned,
            rounds,
            tls_client,
            checks,
            payloads,
            allowed,
        })
    }

    /// The service, without TLS.
    pub(crate) fn rolegate<'a>(&'a self, path: &'a str) -> Target<'a> {
        let token = Some(self.place.token.as_str());
        Target { address: self.plain.address, tls: None, path, token, calls: Calls::Unary }
    }

    /// The service, with TLS.
    pub(crate) fn rolegate_tls<'a>(&'a self, path: &'a str) -> Target<'a> {
        let tls = Some(Arc::clone(&self.tls_client));
        Target { address: self.tls.address, tls, ..self.rolegate(path) }
    }

    /// An echo. It gets the token too: the same bytes come in.
    pub(crate) fn echo<'a>(&'a self, server: &Server, path: &'a str) -> Target<'a> {
        Target { address: server.address, ..self.rolegate(path) }
    }
}

/// Asks every question once, has each answer looked at, and remembers it.
pub(crate) fn learn(
    target: &Target<'_>,
    questions: &[Vec<u8>],
    check: impl Fn(usize, &[u8]) -> Result<(), Failure>,
) -> Result<Vec<Exchange>, Failure> {
    learn_in(Shape::closed(4, 8), target, questions, check)
}

/// The same, with so many under way.
pub(crate) fn learn_in(
    shape: Shape,
    target: &Target<'_>,
    questions: &[Vec<u8>],
    check: impl Fn(usize, &[u8]) -> Result<(), Failure>,
) -> Result<Vec<Exchange>, Failure> {
    let answers = load::ask(target, shape, questions)?;
    let mut exchanges = Vec::with_capacity(questions.len());
    for (place, (question, answer)) in questions.iter().zip(answers).enumerate() {
        check(place, answer.get(5..).unwrap_or_default()).map_err(|wrong| {
            format!("{}: question {place} was answered with {wrong}", target.path)
        })?;
        exchanges.push(Exchange { question: question.clone(), answer });
    }
    Ok(exchanges)
}

fn payload(length: usize, reply: usize) -> Exchange {
    let mut random = Random(length as u64);
    let data: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
    let message = |data: &[u8]| framed(&crate::echo::pb::Bytes { data: data.to_owned().into() });
    Exchange { question: message(&data), answer: message(&data[..reply.min(length)]) }
}

fn tls_client(place: &Place) -> Result<rustls::ClientConfig, Failure> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(place.authority())? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// For a sentence about what was asked.
pub(crate) fn sizes(exchanges: &[Exchange]) -> (usize, usize) {
    let mean =
        |part: fn(&Exchange) -> usize| exchanges.iter().map(part).sum::<usize>() / exchanges.len();
    (mean(|exchange| exchange.question.len()), mean(|exchange| exchange.answer.len()))
}
