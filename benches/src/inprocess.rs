//! The service's library without a server: one tenant with its members, on a database of its own.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rolegate::domain::catalog::{Catalog, PermissionIx};
use rolegate::domain::grant::Grant;
use rolegate::domain::ids::{MemberId, RoleId, TeamId, TenantId};
use rolegate::domain::member::{MemberStatus, Subject};
use rolegate::domain::resource::Resource;
use rolegate::grpc::pb;
use rolegate::server::Services;
use rolegate::service::WriteContext;
use rolegate::service::decide::Question;
use rolegate::service::decision_log::Asker;
use rolegate::service::roles::RoleDraft;
use rolegate::service::tenants::NewTenant;
use rolegate::service::token::Consistency;
use rolegate::service::upsert::{Batch, BatchMode, Upsert};
use rolegate::store::{
    DecisionSource as _, FollowLimits, Freshness, OpenOptions, RecordedCatalog, SqlStore,
};

use crate::Failure;
use crate::workload::{self, Asked, CATALOG, People, Random, Role};

/// Of the tenant that decisions are measured with.
pub const MEMBERS: usize = 100;
/// How many different questions about them.
pub const QUESTIONS: usize = 1_024;
/// The most members in one batch.
const BATCH: usize = 10_000;

/// See the module.
pub struct Desk {
    pub store: SqlStore,
    pub services: Services,
    pub catalog: Arc<Catalog>,
    pub tenant: TenantId,
}

impl Desk {
    /// Makes the tenant with the number 0 and its members, in a new database.
    pub async fn new(database: &Path, members: usize) -> Result<Self, Failure> {
        let options = OpenOptions::new(format!("sqlite:{}", database.display()));
        let store = SqlStore::open(&options).await?;
        let source = workload::catalog();
        let catalog = Catalog::parse(&source).map_err(|problems| problems.to_string())?;
        let catalog = Arc::new(catalog);
        let recorded = RecordedCatalog {
            reference: catalog.reference().clone(),
            hash: catalog.hash().to_owned(),
            source,
        };
        store.record_catalog(&recorded).await?;
        store.register(Arc::clone(&catalog));
        // Nobody else changes this database, so nobody has to follow it.
        let alone = FollowLimits { staleness: Duration::from_secs(86_400), ..Default::default() };
        let services = Services::new(&store, 1 << 30, 1, alone);
        let tenant = TenantId::parse(&workload::tenant(0))?;
        let desk = Desk { store, services, catalog, tenant };
        desk.fill(members).await?;
        Ok(desk)
    }

    /// From the cache, or from the database.
    pub async fn check(&self, question: &Question) -> Result<bool, Failure> {
        let asker = Asker { caller: "bench", method: "bench" };
        let decisions = &self.services.decisions;
        let freshness = &Consistency::MinimizeLatency;
        let answer = decisions.check(asker, &self.tenant, question, freshness).await?;
        Ok(answer.value.is_allowed())
    }

    async fn fill(&self, members: usize) -> Result<(), Failure> {
        let context = || WriteContext {
            caller: "bench".to_owned(),
            actor: None,
            method: "bench",
            request: None,
            validate_only: false,
        };
        let new = NewTenant {
            catalog: CATALOG.to_owned(),
            version: None,
            plan: None,
            owner: MemberId::parse(&workload::id(5, 0, 0))?,
            owner_teams: Vec::new(),
        };
        self.services.tenants.create(context(), &self.tenant, &new).await?;
        let grants = Role::Custom.grants();
        let draft = RoleDraft {
            name: "Desk".to_owned(),
            description: String::new(),
            grants: grants
                .map(|(permission, scope)| Grant { permission, scope: scope.map(str::to_owned) })
                .collect(),
            expand_requirements: false,
        };
        let made = self.services.roles.create(context(), &self.tenant, &draft).await?;
        let custom = made.value.role.id;
        for first in (0..members).step_by(BATCH) {
            let upsert = |number| -> Result<Upsert, Failure> {
                let role = Role::of(number);
                let role = match role {
                    Role::Custom => custom.clone(),
                    default => RoleId::parse(default.default_id())?,
                };
                let teams = workload::teams(0, number);
                let teams =
                    teams.iter().map(|team| TeamId::parse(team)).collect::<Result<_, _>>()?;
                Ok(Upsert {
                    id: MemberId::parse(&workload::member(0, number))?,
                    roles: Some(vec![role]),
                    teams: Some(teams),
                    status: Some(MemberStatus::Active),
                })
            };
            let items: Result<Vec<_>, Failure> =
                (first..members.min(first + BATCH)).map(|number| upsert(number).map(Ok)).collect();
            let batch = Batch {
                items: items?,
                mode: BatchMode::AllOrNothing,
                archive_absent: false,
                etag: None,
            };
            self.services.members.upsert(context(), &self.tenant, batch).await?;
        }
        Ok(())
    }
}

/// Everything that a decision needs, at hand.
pub struct Ready {
    pub desk: Desk,
    pub asked: Vec<Asked>,
    pub questions: Vec<Question>,
    permissions: Vec<PermissionIx>,
    subjects: Vec<Arc<Subject>>,
}

impl Ready {
    pub async fn new(directory: &Path) -> Result<Self, Failure> {
        let desk = Desk::new(&directory.join("process.db"), MEMBERS).await?;
        let people = People { first: 0, tenants: 1, members: MEMBERS };
        let mut random = Random(4);
        let asked: Vec<_> = (0..QUESTIONS).map(|_| people.question(&mut random)).collect();
        let questions: Vec<_> =
            asked.iter().map(|asked| question(&asked.item)).collect::<Result<_, _>>()?;
        let members: Vec<MemberId> = questions.iter().map(|one| one.member.clone()).collect();
        let view = desk.store.view(&desk.tenant, &members, Freshness::FullyConsistent).await?;
        let by_id: HashMap<_, _> = view.ok_or("no tenant")?.members.into_iter().collect();
        let subjects = members.iter().map(|id| by_id.get(id).cloned().ok_or("no member"));
        let permissions = questions.iter().map(|one| desk.catalog.find(&one.permission));
        let permissions = permissions.collect::<Option<Vec<_>>>().ok_or("no permission")?;
        let subjects = subjects.collect::<Result<Vec<_>, _>>()?;
        Ok(Ready { desk, asked, questions, permissions, subjects })
    }

    /// The decision alone.
    pub fn decide(&self, place: usize) -> bool {
        let resource = self.questions[place].resource.as_ref();
        let subject = &self.subjects[place];
        subject.rule(&self.desk.catalog, self.permissions[place], resource).reason.allows()
    }

    /// From the cache, as the hot path asks it.
    pub fn check_at_hand(&self, place: usize) -> Result<bool, Failure> {
        let Question { member, permission, resource } = &self.questions[place];
        let Desk { services, tenant, .. } = &self.desk;
        let at_hand = services.decisions.at_hand(tenant.as_str(), Freshness::MinimizeLatency);
        let (member, permission) = (member.as_str().as_bytes(), permission.as_bytes());
        let made = at_hand.and_then(|tenant| tenant.check(member, permission, resource.as_ref()));
        Ok(made.ok_or("it is not at hand")?.ruling.reason.allows())
    }

    /// From the cache, with the state it was decided at.
    pub async fn check(&self, place: usize) -> Result<bool, Failure> {
        self.desk.check(&self.questions[place]).await
    }
}

/// As the domain has it.
pub fn question(item: &pb::CheckItem) -> Result<Question, Failure> {
    let ids = |list: &Option<pb::IdList>| list.clone().unwrap_or_default().ids;
    let resource = item.resource.clone().unwrap_or_default();
    let members = ids(&resource.assignees);
    let teams = ids(&resource.teams);
    Ok(Question {
        member: MemberId::parse(&item.member_id)?,
        permission: item.permission.clone(),
        resource: Some(Resource {
            assignees: Some(
                members.iter().map(|id| MemberId::parse(id)).collect::<Result<_, _>>()?,
            ),
            teams: Some(teams.iter().map(|id| TeamId::parse(id)).collect::<Result<_, _>>()?),
            ..Resource::default()
        }),
    })
}
