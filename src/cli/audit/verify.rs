//! `rolegate audit verify`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use rolegate::store::{AuditKeyChoice, Head, Keyring, SignedHead, Verified, Verifier};

use super::export::{FORMAT, Line};
use super::{OlderKeys, Opened, Purpose, open, tenants};
use crate::cli::Failure;
use crate::cli::catalog::print;
use crate::cli::database::DatabaseArgs;

/// What `verify` wants to know.
#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    older: OlderKeys,
    /// Only this tenant's trail.
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Heads that `rolegate audit head` printed earlier: a trail that ends before one of them, or
    /// does not have it, is broken.
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// Look at what `rolegate audit export` printed instead of a database.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Print one JSON object for each trail.
    #[arg(long)]
    json: bool,
}

/// The heads of each tenant.
type Heads = BTreeMap<String, Vec<SignedHead>>;

/// What was found so far.
struct Findings {
    json: bool,
    tenant: Option<String>,
    broken: bool,
    trails: u64,
    events: u64,
}

impl Findings {
    fn tell(&mut self, verified: &Verified) -> Result<(), Failure> {
        if self.tenant.as_ref().is_some_and(|tenant| *tenant != verified.tenant) {
            return Ok(());
        }
        self.trails += 1;
        self.events += verified.events;
        self.broken |= !verified.is_sound();
        if self.json {
            let mut value = serde_json::to_value(verified)?;
            if let Some(fields) = value.as_object_mut() {
                fields.insert("sound".to_owned(), verified.is_sound().into());
            }
            return print(&format!("{value}\n"));
        }
        for finding in &verified.findings {
            // Quoted: whoever can edit a trail can put anything there.
            print(&format!("{:?}: {}: {:?}\n", verified.tenant, finding.problem, finding.detail))?;
        }
        if verified.more_findings > 0 {
            print(&format!("{:?}: and {} more\n", verified.tenant, verified.more_findings))?;
        }
        Ok(())
    }
}

/// Looks at all that was asked for.
pub(super) async fn verify(args: VerifyArgs) -> Result<ExitCode, Failure> {
    let mut heads = args.head.as_deref().map(read_heads).transpose()?.unwrap_or_default();
    let mut findings = Findings {
        json: args.json,
        tenant: args.tenant.clone(),
        broken: false,
        trails: 0,
        events: 0,
    };
    if let Some(from) = &args.from {
        let keys = keys_for_file(args.database, &args.older).await?;
        in_file(from, &keys, &mut heads, &mut findings)?;
    } else {
        let Opened { store, keys } = open(args.database, &args.older, Purpose::Look).await?;
        // One that a head was exported of may be gone altogether.
        let asked = args.tenant.as_ref().filter(|tenant| !heads.contains_key(*tenant));
        for tenant in tenants(&store, asked).await? {
            if args.tenant.as_ref().is_none_or(|asked| asked == tenant.as_str()) {
                let exported = heads.remove(tenant.as_str()).unwrap_or_default();
                let verified = store.verify_audit(&tenant, &keys, &exported).await?;
                findings.tell(&verified)?;
            }
        }
        let database = store.identity().database_id.to_string();
        store.close().await;
        if heads.values().flatten().any(|head| head.database != database) {
            return Err("the heads were exported from another database".into());
        }
        for (tenant, exported) in heads {
            let gone = Verifier::new(&keys, &tenant, None, &exported).finish(None, None, 0);
            findings.tell(&gone)?;
        }
    }
    if !findings.json {
        let Findings { trails, events, .. } = findings;
        let what = if findings.broken { "broken" } else { "sound" };
        print(&format!("{what}: {trails} trails with {events} events\n"))?;
    }
    Ok(if findings.broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// With key files no database is needed.
async fn keys_for_file(database: DatabaseArgs, older: &OlderKeys) -> Result<Keyring, Failure> {
    if !older.began_with_database_key
        && let AuditKeyChoice::Given(key) = database.audit_key()?
    {
        return older.ring(Some(key.clone()), &key);
    }
    let Opened { store, keys } = open(database, older, Purpose::Look).await?;
    store.close().await;
    Ok(keys)
}

fn lines(path: &Path) -> Result<impl Iterator<Item = Result<String, Failure>>, Failure> {
    let name = path.display().to_string();
    let cannot = |error: std::io::Error| format!("{name} cannot be read: {error}");
    let file = File::open(path).map_err(cannot)?;
    let lines = BufReader::new(file).lines();
    let name = path.display().to_string();
    Ok(lines
        .map(move |line| line.map_err(|error| format!("{name} cannot be read: {error}").into())))
}

fn read_heads(path: &Path) -> Result<Heads, Failure> {
    let mut heads = Heads::new();
    for (line, text) in lines(path)?.enumerate() {
        let head: SignedHead = serde_json::from_str(&text?)
            .map_err(|_| format!("line {} of {} is no head", line + 1, path.display()))?;
        heads.entry(head.tenant.clone()).or_default().push(head);
    }
    Ok(heads)
}

fn in_file(
    path: &Path,
    keys: &Keyring,
    heads: &mut Heads,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let mut current: Option<Verifier<'_>> = None;
    for (line, text) in lines(path)?.enumerate() {
        let broken = |what: &str| format!("line {} of {} {what}", line + 1, path.display());
        let parsed = serde_json::from_str(&text?);
        let parsed: Line = parsed.map_err(|_| broken("is not a line of an audit export"))?;
        match (parsed, &mut current) {
            (Line::Trail { format, .. }, _) if format != FORMAT => {
                return Err(broken("is of a format that this version does not know").into());
            }
            (Line::Trail { tenant, checkpoint, .. }, current) => {
                if let Some(verifier) = current.take() {
                    findings.tell(&verifier.finish(None, None, 0))?;
                }
                let exported = heads.remove(&tenant).unwrap_or_default();
                *current = Some(Verifier::new(keys, &tenant, checkpoint.as_deref(), &exported));
            }
            (Line::Event(event), Some(verifier)) => verifier.event(&event),
            (Line::Head(signed), current @ Some(_)) => {
                if let Some(mut verifier) = current.take() {
                    verifier.signed_end(&signed);
                    let SignedHead { number, link, key_id, .. } = signed;
                    let head = Head { number, key_id, link };
                    findings.tell(&verifier.finish(Some(&head), None, 0))?;
                }
            }
            (Line::Event(_) | Line::Head(_), None) => {
                return Err(broken("belongs to no trail").into());
            }
        }
    }
    if let Some(verifier) = current {
        findings.tell(&verifier.finish(None, None, 0))?;
    }
    if findings.trails == 0 {
        return Err(format!("there is no such trail in {}", path.display()).into());
    }
    Ok(())
}
