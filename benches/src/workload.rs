//! What is asked about, and of whom: a catalog of 60 permissions, tenants with members in roles and
//! teams, all with ids of 36 bytes, and questions whose answers are known without asking.

use prost::Message;
use rolegate::grpc::pb;

/// The method that most is about.
pub const CHECK: &str = "/rolegate.v1.AuthzService/Check";
/// The catalog's id.
pub const CATALOG: &str = "bench";
/// Sections of the catalog.
const THINGS: [&str; 10] = [
    "ticket",
    "conversation",
    "contact",
    "report",
    "article",
    "channel",
    "workflow",
    "survey",
    "billing",
    "organization",
];
/// What can be done in each section.
const ACTIONS: [&str; 6] = ["view", "reply", "assign", "edit", "export", "delete"];
/// The section whose permissions are about no resource: they have no scopes.
const UNSCOPED: &str = "organization";
/// How many teams a tenant has; a member is in two.
const TEAMS: usize = 20;

/// The catalog: permissions at three scopes and some without, with requirements, as a helpdesk has
/// them.
pub fn catalog() -> String {
    let mut text = format!(
        r#"id = "{CATALOG}"
version = 1
title = "Bench"
default_language = "en"
owner_role = "owner"
roles_per_member = 1

[deletion]
policy = "reassign"

[administration]
roles = "organization.edit"
members = "organization.edit"

[scopes]
mine = {{ relations = ["assignee"], title = "Mine" }}
team = {{ relations = ["assignee", "team"], title = "My teams'" }}
all = {{ relations = ["any"], title = "All" }}

[[role]]
id = "owner"
title = "Owner"
everything = true
"#
    );
    for role in [Role::Agent, Role::Lead] {
        let grant = |(permission, scope)| match scope {
            Some(scope) => format!("\"{permission} at {scope}\""),
            None => format!("\"{permission}\""),
        };
        let grants: Vec<_> = role.grants().map(grant).collect();
        let (id, grants) = (role.default_id(), grants.join(", "));
        text += &format!("\n[[role]]\nid = \"{id}\"\ntitle = \"{id}\"\ngrants = [{grants}]\n");
    }
    for thing in THINGS {
        text += &format!("\n[[section]]\nid = \"{thing}\"\ntitle = \"{thing}\"\n");
        for action in ACTIONS {
            text +=
                &format!("\n[[permission]]\nid = \"{thing}.{action}\"\nsection = \"{thing}\"\n");
            text += &format!("title = \"{action}\"\n");
            if thing != UNSCOPED {
                text += "scopes = [\"mine\", \"team\", \"all\"]\n";
            }
            if action != "view" {
                text += &format!("requires = [\"{thing}.view\"]\n");
            }
        }
    }
    text
}

/// How far a role may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Mine,
    Team,
    All,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Scope::Mine => "mine",
            Scope::Team => "team",
            Scope::All => "all",
        }
    }
}

/// The roles that members hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A default role of the catalog.
    Agent,
    /// Another.
    Lead,
    /// One of the tenant's own.
    Custom,
}

impl Role {
    /// How far it may do something; none: not at all.
    fn scope(self, thing: &str, action: &str) -> Option<Scope> {
        match (self, action) {
            (Role::Lead, _) if thing == UNSCOPED => Some(Scope::All),
            (_, _) if thing == UNSCOPED => None,
            (Role::Agent, "view" | "reply" | "assign") => Some(Scope::Team),
            (Role::Agent, "edit") => Some(Scope::Mine),
            (Role::Agent, _) => None,
            (Role::Lead, "delete") => Some(Scope::Team),
            (Role::Lead, _) => Some(Scope::All),
            (Role::Custom, "view") => Some(Scope::All),
            (Role::Custom, "reply") => Some(Scope::Team),
            (Role::Custom, _) => None,
        }
    }

    /// Permissions with their scopes, where they have scopes.
    pub fn grants(self) -> impl Iterator<Item = (String, Option<&'static str>)> {
        let all = THINGS.iter().flat_map(|thing| ACTIONS.iter().map(move |action| (thing, action)));
        all.filter_map(move |(thing, action)| {
            let scope = self.scope(thing, action)?;
            Some((format!("{thing}.{action}"), (*thing != UNSCOPED).then(|| scope.name())))
        })
    }

    /// Of a role of the catalog.
    pub fn default_id(self) -> &'static str {
        match self {
            Role::Agent | Role::Custom => "agent",
            Role::Lead => "lead",
        }
    }

    /// What a member's number says.
    pub fn of(member: usize) -> Self {
        [Role::Agent, Role::Agent, Role::Custom, Role::Lead][member % 4]
    }
}

/// Of one kind and number, 36 bytes like a UUID, always the same and in no order.
pub fn id(kind: u64, group: usize, number: usize) -> String {
    let mut random = Random(kind << 56 ^ (group as u64) << 32 ^ number as u64);
    let (high, low) = (random.next(), random.next());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0xfff,
        low & 0xffff_ffff_ffff
    )
}

pub fn tenant(number: usize) -> String {
    id(1, 0, number)
}

pub fn member(tenant: usize, number: usize) -> String {
    id(2, tenant, number)
}

fn team(tenant: usize, number: usize) -> String {
    id(3, tenant, number % TEAMS)
}

/// The teams of a member.
pub fn teams(tenant: usize, member: usize) -> Vec<String> {
    vec![team(tenant, member), team(tenant, member + 7)]
}

/// Random numbers that are always the same ones (splitmix64).
#[derive(Debug, Clone, Copy)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// A resource as seen from a member, and what the member may do to it.
fn resource(tenant: usize, member: usize, random: &mut Random) -> (pb::Resource, Stand) {
    let mine = random.below(4) == 0;
    let in_team = random.below(2) == 0;
    let assignee = if mine { member } else { member + 1 };
    let team_number = if in_team { member } else { member + 1 };
    let list = |id: String| Some(pb::IdList::from(vec![id]));
    let resource = pb::Resource {
        assignees: list(self::member(tenant, assignee)),
        teams: list(team(tenant, team_number)),
        ..pb::Resource::default()
    };
    (resource, Stand { mine, in_team })
}

struct Stand {
    mine: bool,
    in_team: bool,
}

impl Stand {
    fn allows(&self, scope: Option<Scope>) -> bool {
        match scope {
            None => false,
            Some(Scope::Mine) => self.mine,
            Some(Scope::Team) => self.mine || self.in_team,
            Some(Scope::All) => true,
        }
    }
}

/// Tenants of so many members.
#[derive(Debug, Clone, Copy)]
pub struct People {
    /// The number of the first tenant.
    pub first: usize,
    /// How many.
    pub tenants: usize,
    /// Of each.
    pub members: usize,
}

/// A question and whether it is allowed.
pub struct Asked {
    pub tenant: usize,
    pub member: usize,
    pub item: pb::CheckItem,
    pub allowed: bool,
}

impl People {
    /// A question to which the answer is known.
    pub fn question(&self, random: &mut Random) -> Asked {
        let tenant = self.first + random.below(self.tenants);
        let member = random.below(self.members);
        self.question_of(tenant, member, random)
    }

    /// Of one member.
    pub fn question_of(&self, tenant: usize, member: usize, random: &mut Random) -> Asked {
        let thing = THINGS[random.below(THINGS.len())];
        let action = ACTIONS[random.below(ACTIONS.len())];
        let (resource, stand) = resource(tenant, member, random);
        Asked {
            tenant,
            member,
            allowed: stand.allows(Role::of(member).scope(thing, action)),
            item: pb::CheckItem {
                member_id: self::member(tenant, member),
                permission: format!("{thing}.{action}"),
                resource: Some(resource),
            },
        }
    }

    /// A batch about members of one tenant, and whether each item is allowed.
    pub fn batch(&self, items: usize, random: &mut Random) -> (pb::BatchCheckRequest, Vec<bool>) {
        let tenant = self.first + random.below(self.tenants);
        let (mut list, mut allowed) = (Vec::new(), Vec::new());
        for _ in 0..items {
            let member = random.below(self.members);
            let one = self.question_of(tenant, member, random);
            list.push(one.item);
            allowed.push(one.allowed);
        }
        let request = pb::BatchCheckRequest {
            tenant_id: self::tenant(tenant),
            items: list,
            consistency: None,
        };
        (request, allowed)
    }

    /// The same for a stream, with correlation ids from `first` on.
    pub fn stream_batch(
        &self,
        items: usize,
        first: u64,
        random: &mut Random,
    ) -> (pb::CheckStreamRequest, Vec<bool>) {
        let (batch, allowed) = self.batch(items, random);
        let items = batch.items.into_iter().zip(first..).map(|(item, correlation_id)| {
            let pb::CheckItem { member_id, permission, resource } = item;
            pb::CheckStreamItem { correlation_id, member_id, permission, resource }
        });
        let request = pb::CheckStreamRequest {
            tenant_id: batch.tenant_id,
            items: items.collect(),
            consistency: None,
        };
        (request, allowed)
    }

    /// A list of candidates of one agent, and which of them it may see.
    pub fn list(
        &self,
        length: usize,
        random: &mut Random,
    ) -> (pb::FilterResourcesRequest, Vec<String>) {
        let tenant = self.first + random.below(self.tenants);
        // Numbers that are divisible by four are agents'.
        let member = random.below(self.members) / 4 * 4;
        let (mut resources, mut allowed) = (Vec::new(), Vec::new());
        for number in 0..length {
            let (resource, stand) = resource(tenant, member, random);
            let id = id(4, tenant, number);
            if stand.allows(Role::of(member).scope("conversation", "view")) {
                allowed.push(id.clone());
            }
            resources.push(pb::Resource { id, ..resource });
        }
        let request = pb::FilterResourcesRequest {
            tenant_id: self::tenant(tenant),
            member_id: self::member(tenant, member),
            permission: "conversation.view".to_owned(),
            resources,
            consistency: None,
        };
        (request, allowed)
    }
}

impl Asked {
    /// As a call of its own.
    pub fn check(&self) -> pb::CheckRequest {
        let pb::CheckItem { member_id, permission, resource } = self.item.clone();
        pb::CheckRequest {
            tenant_id: tenant(self.tenant),
            member_id,
            permission,
            resource,
            consistency: None,
        }
    }
}

/// A message as it goes over the wire, with its gRPC head.
pub fn framed(message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut framed = Vec::with_capacity(length + 5);
    framed.push(0);
    framed.extend_from_slice(&(length as u32).to_be_bytes());
    framed.extend_from_slice(&message.encode_to_vec());
    framed
}
