//! `rolegate audit export`, and the lines of its files.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use rolegate::domain::ids::TenantId;
use rolegate::store::{AuditKey, Checkpoint, Record, SignedHead, SqlStore};
use serde::{Deserialize, Serialize};

use super::{OlderKeys, Opened, Purpose, open, tenants};
use crate::cli::Failure;
use crate::cli::database::DatabaseArgs;

/// How many events are read at a time: each can be large.
const AT_ONCE: u64 = 64;
/// Of the files.
pub(super) const FORMAT: u32 = 1;

/// What `export` wants to know.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    older: OlderKeys,
    /// The tenant.
    #[arg(long, value_name = "ID")]
    tenant: String,
}

/// One line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Line {
    /// A trail begins.
    Trail { format: u32, tenant: String, checkpoint: Option<Box<Checkpoint>> },
    /// Its next event.
    Event(Box<Record>),
    /// Its end.
    Head(SignedHead),
}

/// Prints a trail at one state.
pub(super) async fn export(args: ExportArgs) -> Result<ExitCode, Failure> {
    let Opened { store, keys } = open(args.database, &args.older, Purpose::Look).await?;
    let key = keys.current().ok_or("there is no key to sign with")?;
    for tenant in tenants(&store, Some(&args.tenant)).await? {
        match print(&store, &tenant, key).await {
            // Whoever reads has seen enough.
            Err(error) if is_broken_pipe(&*error) => break,
            printed => printed?,
        }
    }
    store.close().await;
    Ok(ExitCode::SUCCESS)
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

async fn print(store: &SqlStore, tenant: &TenantId, key: &AuditKey) -> Result<(), Failure> {
    let tx = store.read().await?;
    let trail = tx.trail(tenant).await?;
    line(&Line::Trail {
        format: FORMAT,
        tenant: tenant.to_string(),
        checkpoint: trail.checkpoint.map(Box::new),
    })?;
    let mut after = None;
    loop {
        let events = tx.trail_records(tenant, after, AT_ONCE).await?;
        let Some(last) = events.last() else { break };
        after = Some(last.number);
        for event in events {
            line(&Line::Event(Box::new(event)))?;
        }
    }
    if let Some(head) = trail.head {
        line(&Line::Head(store.sign_head(tenant, &head, key)))?;
    }
    Ok(())
}

fn line(line: &Line) -> Result<(), Failure> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    // Not `print`: it takes a reader that went away for a success, and an export can be long.
    std::io::stdout().write_all(&text)?;
    Ok(())
}
