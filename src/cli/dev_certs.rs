//! `rolegate dev-certs`: an authority and certificates for trying out TLS on one machine.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::Failure;
use super::catalog::print;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What `dev-certs` wants to know.
#[derive(Debug, Args)]
pub(super) struct DevCertsArgs {
    /// Where to put the files; made if it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A caller to make a certificate for, in files of that name; several times for several.
    #[arg(long = "client", value_name = "NAME", default_values = ["admin", "chat", "ticketing"])]
    clients: Vec<String>,
    /// A DNS name of the server besides localhost; several times for several.
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// What comes before the name in the certificate's URI.
    #[arg(long, value_name = "DOMAIN", default_value = "rolegate.dev")]
    trust_domain: String,
    /// For how many days they hold.
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=365))]
    days: u32,
    /// Overwrite files that are there.
    #[arg(long)]
    force: bool,
}

/// One file to be written.
struct Output {
    name: String,
    text: String,
    secret: bool,
}

/// Makes everything anew, the authority too, whose key is then forgotten.
pub(super) fn run(args: &DevCertsArgs) -> Result<(), Failure> {
    for name in &args.clients {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) || ["ca", "server"].contains(&name.as_str())
        {
            let message = format!(
                "--client {name:?} is not letters, digits, `-` and `_`, or is `ca` or `server`"
            );
            return Err(message.into());
        }
    }
    let outputs = make(args)?;
    std::fs::create_dir_all(&args.out)
        .map_err(|error| format!("{} cannot be made: {error}", args.out.display()))?;
    if !args.force
        && let Some(there) =
            outputs.iter().map(|output| args.out.join(&output.name)).find(|path| path.exists())
    {
        let message =
            format!("{} is there already; --force overwrites it and the others", there.display());
        return Err(message.into());
    }
    for output in &outputs {
        let path = args.out.join(&output.name);
        write(&path, output)
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    let mut said =
        format!("in {}, for {} days, for trying out only:\n", args.out.display(), args.days);
    said.push_str("  ca.pem                   the authority\n");
    said.push_str("  server.pem server.key    localhost, 127.0.0.1, ::1\n");
    for name in &args.clients {
        let files = format!("{name}.pem {name}.key");
        said.push_str(&format!("  {files:<24} {}\n", uri(args, name)));
    }
    print(&said)
}

fn uri(args: &DevCertsArgs, name: &str) -> String {
    format!("spiffe://{}/{name}", args.trust_domain)
}

fn make(args: &DevCertsArgs) -> Result<Vec<Output>, Failure> {
    let now = SystemTime::now();
    let (from, until) = (now - DAY / 24, now + DAY * args.days);
    let lasting = |mut params: CertificateParams| {
        (params.not_before, params.not_after) = (from.into(), until.into());
        params
    };
    let mut authority = lasting(CertificateParams::default());
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.distinguished_name.push(DnType::CommonName, "rolegate dev-certs");
    let key = KeyPair::generate()?;
    let mut outputs = vec![Output {
        name: "ca.pem".to_owned(),
        text: authority.self_signed(&key)?.pem(),
        secret: false,
    }];
    let authority = Issuer::new(authority, key);
    let mut sign = |name: &str, sans: Vec<SanType>, usage| -> Result<(), rcgen::Error> {
        let mut params = lasting(CertificateParams::default());
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = sans;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let text = params.signed_by(&key, &authority)?.pem();
        outputs.push(Output { name: format!("{name}.pem"), text, secret: false });
        outputs.push(Output {
            name: format!("{name}.key"),
            text: key.serialize_pem(),
            secret: true,
        });
        Ok(())
    };
    let mut here = vec![
        SanType::DnsName("localhost".try_into()?),
        SanType::IpAddress([127, 0, 0, 1].into()),
        SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into()),
    ];
    for host in &args.hosts {
        here.push(SanType::DnsName(host.as_str().try_into()?));
    }
    sign("server", here, ExtendedKeyUsagePurpose::ServerAuth)?;
    for name in &args.clients {
        let uri = SanType::URI(uri(args, name).try_into()?);
        sign(name, vec![uri], ExtendedKeyUsagePurpose::ClientAuth)?;
    }
    Ok(outputs)
}

/// Keys are for their owner alone from the first byte on, whatever stood there before.
fn write(path: &Path, output: &Output) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mode = if output.secret { 0o600 } else { 0o644 };
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(output.text.as_bytes())
}
