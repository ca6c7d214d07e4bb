//! `rolegate catalog`: for whoever writes catalogs, without a server.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use rolegate::domain::catalog::diff::{CatalogDiff, role_diff};
use rolegate::domain::catalog::{Catalog, Grantable, SectionIx, shipped};
use rolegate::domain::ids::TenantId;
use rolegate::domain::role::RoleKind;
use rolegate::domain::tenant::TenantState;
use rolegate::store::SqlStore;

use super::Failure;
use super::database::to_look_at;
use super::serve::read_catalog;

/// What can be done with catalogs.
#[derive(Debug, Subcommand)]
pub(super) enum CatalogCommand {
    /// The catalogs that ship with the program.
    List,
    /// A shipped catalog or a file, as a tree with its roles.
    Show {
        /// A shipped catalog's id, or a file.
        catalog: String,
        /// Print the TOML as it is.
        #[arg(long)]
        toml: bool,
    },
    /// Checks a file, and reports every mistake with its line.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// What every default and custom role gains and loses between two versions.
    Diff(DiffArgs),
}

/// What `diff` wants to know.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The older one: a shipped catalog's id, or a file.
    old: String,
    /// The newer one.
    new: String,
    /// Also look at the custom roles of the tenants in this database.
    #[arg(long, env = "ROLEGATE_DATABASE_URL")]
    database_url: Option<String>,
}

/// Runs one of them.
pub(super) async fn run(command: CatalogCommand) -> Result<(), Failure> {
    let text = match command {
        CatalogCommand::List => list()?,
        CatalogCommand::Show { catalog, toml } => {
            let catalog = load(&catalog)?;
            if toml { catalog.source().to_owned() } else { show(&catalog) }
        }
        CatalogCommand::Check { file } => {
            let catalog = load(&file.display().to_string())?;
            format!(
                "{} is sound: {}, {} permissions, {} default roles, hash {}\n",
                file.display(),
                catalog.reference(),
                catalog.permissions().len(),
                catalog.default_roles().len(),
                catalog.hash()
            )
        }
        CatalogCommand::Diff(args) => diff(&args).await?,
    };
    print(&text)
}

/// Writes to standard output; a reader that has seen enough is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn list() -> Result<String, Failure> {
    let mut text = String::new();
    for source in shipped() {
        let catalog = parse("a shipped catalog", source)?;
        let roles: Vec<_> = catalog.default_roles().iter().map(|role| role.id.as_str()).collect();
        text += &format!(
            "{:<12} {:<12} {:>3} permissions   roles: {}\n",
            catalog.reference().to_string(),
            catalog.title().get(""),
            catalog.permissions().len(),
            roles.join(", ")
        );
    }
    Ok(text)
}

/// A shipped catalog by its id (or `id@version`), else a file.
fn load(name: &str) -> Result<Catalog, Failure> {
    for source in shipped() {
        let catalog = parse("a shipped catalog", source)?;
        if name == catalog.reference().id || name == catalog.reference().to_string() {
            return Ok(catalog);
        }
    }
    let path = PathBuf::from(name);
    if !path.exists() {
        return Err(format!(
            "{name} is neither a file nor a shipped catalog (`rolegate catalog list` names those)"
        )
        .into());
    }
    let file = read_catalog(&path)?;
    parse(&file.origin, &file.source)
}

fn parse(origin: &str, source: &str) -> Result<Catalog, Failure> {
    Catalog::parse(source).map_err(|problems| format!("{origin} has mistakes:\n{problems}").into())
}

fn show(catalog: &Catalog) -> String {
    let mut text = format!("{} {}\n\nPermissions\n", catalog.title().get(""), catalog.reference());
    let roots = positions(catalog, None);
    for section in roots {
        show_section(catalog, section, 1, &mut text);
    }
    text += "\nDefault roles\n";
    for role in catalog.default_roles() {
        let owner = if role.id == *catalog.owner() { ", the owner" } else { "" };
        text += &format!("  {} ({}{owner})\n", role.id, role.title.get(""));
        for grant in &role.grants {
            text += &format!("    {grant}\n");
        }
    }
    text
}

fn positions(catalog: &Catalog, parent: Option<SectionIx>) -> Vec<SectionIx> {
    catalog.section_indices().filter(|ix| catalog.section(*ix).parent == parent).collect()
}

fn show_section(catalog: &Catalog, section: SectionIx, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    *text += &format!("{indent}{}\n", catalog.section(section).title.get(""));
    for (_, permission) in catalog.permissions().filter(|(_, found)| found.section == section) {
        let scopes: Vec<_> =
            permission.scopes.iter().map(|ix| catalog.scope(*ix).id.as_str()).collect();
        let mut notes = Vec::new();
        if !scopes.is_empty() {
            notes.push(format!("at {}", scopes.join(" | ")));
        }
        if let Some(leader) = permission.follows {
            notes.push(format!("reaches like {}", catalog.permission(leader).id));
        }
        match permission.grantable {
            Grantable::Base(_) => notes.push("every member".to_owned()),
            Grantable::Never => notes.push("default roles only".to_owned()),
            Grantable::Yes => {}
        }
        let notes = notes.join("; ");
        *text += &format!("{indent}  {:<32} {notes}\n", permission.id);
    }
    for inner in positions(catalog, Some(section)) {
        show_section(catalog, inner, depth + 1, text);
    }
}

async fn diff(args: &DiffArgs) -> Result<String, Failure> {
    let (old, new) = (load(&args.old)?, load(&args.new)?);
    let diff = CatalogDiff::of(&old, &new);
    let mut text = diff.to_string();
    let mut widens = diff.widens();
    if let Some(url) = &args.database_url {
        let (custom, custom_widens) = custom_roles(url, &old, &new).await?;
        text += &custom;
        widens |= custom_widens;
    } else {
        text += "\nCustom roles were not looked at: name their database with --database-url.\n";
    }
    text += if widens {
        "\nSomebody may do more than before: MoveCatalog asks for accept_widening.\n"
    } else {
        "\nNobody may do more than before.\n"
    };
    Ok(text)
}

/// What the custom roles of the tenants on the old version gain and lose.
async fn custom_roles(url: &str, old: &Catalog, new: &Catalog) -> Result<(String, bool), Failure> {
    const PAGE: u64 = 500;
    let store = SqlStore::open(&to_look_at(url)?).await?;
    let tx = store.read().await?;
    let (mut text, mut widens, mut looked_at) = (String::new(), false, 0);
    let mut last: Option<TenantId> = None;
    loop {
        let tenants = tx.tenants(last.as_ref(), PAGE, false).await?;
        let Some(newest) = tenants.last() else { break };
        last = Some(newest.id.clone());
        for tenant in tenants {
            if tenant.catalog != *old.reference() || tenant.state != TenantState::Active {
                continue;
            }
            for role in tx.roles(&tenant.id, None, u64::from(u32::MAX)).await? {
                looked_at += 1;
                let deltas = role_diff(old, new, RoleKind::Custom, &role.grants);
                if deltas.is_empty() {
                    continue;
                }
                text +=
                    &format!("\nTenant {}, custom role {} ({})\n", tenant.id, role.id, role.name);
                for delta in deltas {
                    widens |= delta.gained();
                    text += &format!("  {delta}\n");
                }
            }
        }
    }
    drop(tx);
    store.close().await;
    text +=
        &format!("\n{looked_at} custom roles of tenants on {} were looked at.\n", old.reference());
    Ok((text, widens))
}
