//! A catalog file as written: every value typed and with its place, nothing looked up yet.

use toml::de::DeTable;

use super::prose::{Prose, TextFields, is_language};
use super::text::Text;
use super::{
    MAX_CUSTOM_ROLES, MAX_DEFAULT_ROLES, MAX_PERMISSIONS, MAX_PLANS, MAX_ROLES_PER_MEMBER,
    MAX_SCOPES, MAX_SECTIONS,
};
use crate::domain::document::{Fields, Problems, Word, did_you_mean};

pub(super) struct RawCatalog {
    pub(super) id: Option<Word>,
    pub(super) version: Option<u32>,
    pub(super) title: Text,
    pub(super) owner_role: Option<Word>,
    pub(super) roles_per_member: usize,
    pub(super) plans: Vec<RawPlan>,
    pub(super) limits: Vec<(Word, u32)>,
    pub(super) deletion: Option<RawDeletion>,
    pub(super) administration: RawAdministration,
    pub(super) scopes: Vec<RawScope>,
    pub(super) sections: Vec<RawSection>,
    pub(super) permissions: Vec<RawPermission>,
    pub(super) roles: Vec<RawRole>,
}

pub(super) struct RawPlan {
    pub(super) id: Option<Word>,
    pub(super) title: Text,
}

pub(super) struct RawDeletion {
    pub(super) policy: Option<Word>,
    pub(super) confirmation: Option<Word>,
}

#[derive(Default)]
pub(super) struct RawAdministration {
    pub(super) roles: Option<Word>,
    pub(super) members: Option<Word>,
    pub(super) member_removal: Option<Word>,
}

pub(super) struct RawScope {
    pub(super) id: Word,
    pub(super) title: Text,
    /// `None`: could not be read, and was reported.
    pub(super) relations: Option<Vec<Word>>,
}

pub(super) struct RawSection {
    pub(super) id: Option<Word>,
    pub(super) parent: Option<Word>,
    pub(super) title: Text,
    pub(super) description: Text,
}

pub(super) struct RawPermission {
    pub(super) id: Option<Word>,
    pub(super) section: Option<Word>,
    pub(super) title: Text,
    pub(super) description: Text,
    pub(super) scopes: Vec<Word>,
    pub(super) follows: Option<Word>,
    pub(super) requires: Vec<RawRequirement>,
    pub(super) custom_roles: Option<Word>,
    pub(super) renamed_from: Vec<Word>,
}

pub(super) struct RawRequirement {
    pub(super) at: usize,
    pub(super) any_of: bool,
    pub(super) choices: Vec<Word>,
}

pub(super) struct RawRole {
    pub(super) at: usize,
    pub(super) id: Option<Word>,
    pub(super) title: Text,
    pub(super) description: Text,
    pub(super) holds: RawHolds,
    pub(super) renamed_from: Vec<Word>,
}

pub(super) enum RawHolds {
    /// `grants = [...]`
    Grants(Vec<Word>),
    /// `everything = true`, and what is taken from it.
    EverythingExcept(Vec<Word>),
    /// Could not be read, and was reported.
    Unclear,
}

/// Reads the whole document.
pub(super) fn read<'d>(document: &'d DeTable<'d>, problems: &'d Problems<'d>) -> RawCatalog {
    let root = Fields::new("the catalog", 0, document, problems);
    let language = root.word("default_language");
    if let Some(tag) = language.as_ref().filter(|tag| !is_language(&tag.text)) {
        let message =
            format!("default_language {tag} is not a language such as \"en\" or \"pt-BR\"");
        problems.report(tag.at, message);
    }
    let language = language.map_or_else(|| "en".to_owned(), |word| word.text);
    let administration = root.required_table("administration").map(administration);
    let raw = RawCatalog {
        id: root.required_word("id"),
        version: root.required_number("version", 1..=u32::MAX),
        title: root.text("title", Prose::Title, &language),
        owner_role: root.required_word("owner_role"),
        roles_per_member: root
            .number("roles_per_member", 1..=MAX_ROLES_PER_MEMBER)
            .map_or(1, |number| number as usize),
        plans: read_all(&root, "plan", MAX_PLANS, |fields| plan(fields, &language)),
        limits: root.table("limits").map(limits).unwrap_or_default(),
        deletion: root.required_table("deletion").map(deletion),
        administration: administration.unwrap_or_default(),
        scopes: root.table("scopes").map(|table| scopes(table, &language)).unwrap_or_default(),
        sections: read_all(&root, "section", MAX_SECTIONS, |fields| section(fields, &language)),
        permissions: read_all(&root, "permission", MAX_PERMISSIONS, |fields| {
            permission(fields, &language, problems)
        }),
        roles: read_all(&root, "role", MAX_DEFAULT_ROLES, |fields| {
            role(fields, &language, problems)
        }),
    };
    if raw.scopes.len() > MAX_SCOPES {
        problems.report(0, format!("a catalog may have at most {MAX_SCOPES} scopes"));
    }
    root.finish();
    raw
}

fn read_all<'d, T>(
    root: &Fields<'d>,
    key: &'static str,
    limit: usize,
    read: impl Fn(Fields<'d>) -> T,
) -> Vec<T> {
    root.tables(key, limit).into_iter().map(read).collect()
}

fn plan(fields: Fields<'_>, language: &str) -> RawPlan {
    let id = fields.required_word("id");
    let fields = fields.named("plan", id.as_ref());
    let title = fields.text("title", Prose::Title, language);
    fields.finish();
    RawPlan { id, title }
}

fn limits(fields: Fields<'_>) -> Vec<(Word, u32)> {
    let limits = fields.table("custom_roles").map(|custom_roles| {
        let entries = custom_roles.entries().into_iter();
        entries
            .filter_map(|(plan, value)| {
                Some((plan, custom_roles.entry_number(&value, 0..=MAX_CUSTOM_ROLES)?))
            })
            .collect()
    });
    fields.finish();
    limits.unwrap_or_default()
}

fn deletion(fields: Fields<'_>) -> RawDeletion {
    let deletion = RawDeletion {
        policy: fields.required_word("policy"),
        confirmation: fields.word("confirmation"),
    };
    fields.finish();
    deletion
}

fn administration(fields: Fields<'_>) -> RawAdministration {
    let administration = RawAdministration {
        roles: fields.required_word("roles"),
        members: fields.required_word("members"),
        member_removal: fields.word("member_removal"),
    };
    fields.finish();
    administration
}

/// By id: the order in which a TOML table is written says nothing, and must not, because the hash
/// does not see it.
fn scopes(fields: Fields<'_>, language: &str) -> Vec<RawScope> {
    let read = |(id, value): (Word, _)| {
        let (relations, table) = fields.entry_list_or_table(&id, &value);
        let Some(table) = table else {
            return RawScope { title: Text::plain(&id.text), id, relations };
        };
        let mut title = table.text("title", Prose::OptionalTitle, language);
        if title == Text::default() {
            title = Text::plain(&id.text);
        }
        let relations = table.required_words("relations");
        table.finish();
        RawScope { id, title, relations }
    };
    fields.entries().into_iter().map(read).collect()
}

fn section(fields: Fields<'_>, language: &str) -> RawSection {
    let id = fields.required_word("id");
    let fields = fields.named("section", id.as_ref());
    let section = RawSection {
        id,
        parent: fields.word("parent"),
        title: fields.text("title", Prose::Title, language),
        description: fields.text("description", Prose::Description, language),
    };
    fields.finish();
    section
}

fn permission(fields: Fields<'_>, language: &str, problems: &Problems<'_>) -> RawPermission {
    let id = fields.required_word("id");
    let fields = fields.named("permission", id.as_ref());
    let requires = fields.list("requires").unwrap_or_default();
    let requires = requires.iter().filter_map(|entry| {
        let (any_of, choices) = fields.one_or_any_of(entry)?;
        Some(RawRequirement { at: entry.at, any_of, choices })
    });
    let permission = RawPermission {
        section: fields.required_word("section"),
        title: fields.text("title", Prose::Title, language),
        description: fields.text("description", Prose::Description, language),
        scopes: fields.words("scopes").unwrap_or_default(),
        follows: fields.word("follows"),
        requires: requires.collect(),
        custom_roles: fields.word("custom_roles"),
        renamed_from: fields.words("renamed_from").unwrap_or_default(),
        id,
    };
    if let Some(word) = &permission.custom_roles
        && !["yes", "base", "never"].contains(&word.text.as_str())
    {
        let hint = did_you_mean(&word.text, ["yes", "base", "never"]);
        problems.report(
            word.at,
            format!(
                "custom_roles of {} must be yes, base or never, not {word}{hint}",
                fields.what()
            ),
        );
    }
    fields.finish();
    permission
}

fn role(fields: Fields<'_>, language: &str, problems: &Problems<'_>) -> RawRole {
    let id = fields.required_word("id");
    let fields = fields.named("role", id.as_ref());
    let what = fields.what();
    let written = fields.get("grants").is_some();
    let grants = fields.words("grants");
    let excepted = fields.get("except").map(|value| value.at);
    let except = fields.words("except").unwrap_or_default();
    let everything = match fields.flag("everything") {
        Some((false, at)) => {
            problems.report(at, format!("everything of {what} is true or left out"));
            false
        }
        Some((true, _)) => true,
        None => false,
    };
    let holds = match (everything, grants) {
        (true, Some(_)) => {
            let message = format!("{what} has everything and grants; it must have one of them");
            problems.report(fields.at(), message);
            RawHolds::Unclear
        }
        (true, None) => RawHolds::EverythingExcept(except),
        (false, grants) => {
            if let Some(at) = excepted.filter(|_| fields.get("everything").is_none()) {
                problems.report(at, format!("except of {what} only goes with everything = true"));
            }
            if !written && fields.get("everything").is_none() {
                let message = format!("{what} has neither grants nor everything = true");
                problems.report(fields.at(), message);
            }
            grants.map_or(RawHolds::Unclear, RawHolds::Grants)
        }
    };
    let role = RawRole {
        at: fields.at(),
        title: fields.text("title", Prose::Title, language),
        description: fields.text("description", Prose::Description, language),
        holds,
        renamed_from: fields.words("renamed_from").unwrap_or_default(),
        id,
    };
    fields.finish();
    role
}
