//! `AuthzService`.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::accept::{read, read_as_caller};
use super::answer::{answer, may_be_named};
use super::fields::{Fields, Path, Sound};
use super::item_error::ErrorRoom;
use super::pb::authz_service_server::AuthzService;
use super::watch::WatchStream;
use super::{authz_show, item_error, pb, show, values, watch};
use crate::domain::ids::TenantId;
use crate::domain::refusal::{Problem, Violation};
use crate::domain::resource::Resource;
use crate::service::authentication::Proof;
use crate::service::decide::{Answer, Decisions, MAX_BATCH, Question};
use crate::service::decision_log::Asker;
use crate::service::page::Page;
use crate::service::roles::Roles;
use crate::service::watch::Watches;
use crate::service::who::Authorized;
use crate::store::DecisionSource;

/// What is said of items that are no questions in one answer, in bytes.
const MAX_ERROR_BYTES: usize = 1 << 20;

/// Serves decisions.
#[derive(Debug, Clone)]
pub struct AuthzApi<S> {
    decisions: Decisions<S>,
    roles: Roles,
    watches: Watches,
}

impl<S: DecisionSource> AuthzApi<S> {
    /// Serves these use cases; `roles` has those that always ask the database.
    #[must_use]
    pub fn new(decisions: Decisions<S>, roles: Roles, watches: Watches) -> Self {
        AuthzApi { decisions, roles, watches }
    }
}

#[tonic::async_trait]
impl<S: DecisionSource> AuthzService for AuthzApi<S> {
    async fn check(
        &self,
        request: Request<pb::CheckRequest>,
    ) -> Result<Response<pb::CheckResponse>, Status> {
        let (caller, message) = read_as_caller(request)?;
        let pb::CheckRequest { tenant_id, member_id, permission, resource, consistency } = message;
        let mut fields = Fields::of_message(Arc::clone(&caller));
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let question = question(&mut fields, None, member_id, permission, resource);
        let consistency = values::consistency(&mut fields, consistency);
        let (tenant, question, consistency) = fields.all((tenant, question, consistency))?;

        let asker = Asker { caller: &caller.name, method: "AuthzService/Check" };
        let Answer { value, catalog, token, stale_since } =
            self.decisions.check(asker, &tenant, &question, &consistency).await?;
        Ok(Response::new(pb::CheckResponse {
            decision: Some(show::decision(catalog.as_deref(), value)),
            consistency_token: token.unwrap_or_default(),
            stale_since: stale_since.map(show::time),
        }))
    }

    async fn batch_check(
        &self,
        request: Request<pb::BatchCheckRequest>,
    ) -> Result<Response<pb::BatchCheckResponse>, Status> {
        let (caller, message) = read_as_caller(request)?;
        let pb::BatchCheckRequest { tenant_id, items, consistency } = message;
        let mut fields = Fields::of_message(Arc::clone(&caller));
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let items = fields.at_most(MAX_BATCH, "items", items);
        let consistency = values::consistency(&mut fields, consistency);
        let (tenant, items, consistency) = fields.all((tenant, items, consistency))?;

        let questions = items.into_iter().enumerate().map(|(index, item)| check_item(index, item));
        let asker = Asker { caller: &caller.name, method: "AuthzService/BatchCheck" };
        let Answer { value, catalog, token, stale_since } =
            self.decisions.check_batch(asker, &tenant, questions.collect(), &consistency).await?;
        use pb::check_item_result::Result as ItemResult;
        let mut room = ErrorRoom::new(MAX_ERROR_BYTES);
        let mut show = |item| match item {
            Ok(decision) => ItemResult::Decision(show::decision(catalog.as_deref(), decision)),
            Err(violation) => ItemResult::Error(room.fit(item_error::of_violation(&violation))),
        };
        let items = value.into_iter().map(|item| pb::CheckItemResult { result: Some(show(item)) });
        answer(pb::BatchCheckResponse {
            items: items.collect(),
            consistency_token: token.unwrap_or_default(),
            stale_since: stale_since.map(show::time),
        })
    }

    type CheckStreamStream = tonic::codegen::BoxStream<pb::CheckStreamResponse>;

    /// Never called: [`CheckStreams`](super::CheckStreams) answers in front of this service.
    async fn check_stream(
        &self,
        _: Request<Streaming<pb::CheckStreamRequest>>,
    ) -> Result<Response<Self::CheckStreamStream>, Status> {
        Err(super::edge::no_such_method())
    }

    async fn filter_resources(
        &self,
        request: Request<pb::FilterResourcesRequest>,
    ) -> Result<Response<pb::FilterResourcesResponse>, Status> {
        let (caller, message) = read_as_caller(request)?;
        let pb::FilterResourcesRequest { tenant_id, member_id, permission, resources, consistency } =
            message;
        let mut fields = Fields::of_message(Arc::clone(&caller));
        let tenant: Sound<TenantId> = fields.tenant("tenant_id", &tenant_id);
        let member = fields.id("member_id", &member_id);
        let permission = fields.required("permission", permission);
        may_be_named(&resources)?;
        let resources = fields.at_most(MAX_BATCH, "resources", resources);
        let resources = resources.and_then(|resources| candidates(&mut fields, resources));
        let consistency = values::consistency(&mut fields, consistency);
        let (tenant, member, permission, resources, consistency) =
            fields.all((tenant, member, permission, resources, consistency))?;

        let asker = Asker { caller: &caller.name, method: "AuthzService/FilterResources" };
        let found = self
            .decisions
            .filter(asker, &tenant, &member, &permission, &resources, &consistency)
            .await?;
        answer(authz_show::filtered(found))
    }

    async fn plan_filter(
        &self,
        request: Request<pb::PlanFilterRequest>,
    ) -> Result<Response<pb::PlanFilterResponse>, Status> {
        let (mut fields, pb::PlanFilterRequest { tenant_id, member_id, permission, consistency }) =
            read(request)?;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let member = fields.id("member_id", &member_id);
        let permission = fields.required("permission", permission);
        let consistency = values::consistency(&mut fields, consistency);
        let (tenant, member, permission, consistency) =
            fields.all((tenant, member, permission, consistency))?;

        let answer = self.decisions.plan(&tenant, &member, &permission, &consistency).await?;
        Ok(Response::new(authz_show::planned(answer)))
    }

    async fn list_effective_permissions(
        &self,
        request: Request<pb::ListEffectivePermissionsRequest>,
    ) -> Result<Response<pb::ListEffectivePermissionsResponse>, Status> {
        let (mut fields, pb::ListEffectivePermissionsRequest { tenant_id, member_id, consistency }) =
            read(request)?;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let member = fields.id("member_id", &member_id);
        let consistency = values::consistency(&mut fields, consistency);
        let (tenant, member, consistency) = fields.all((tenant, member, consistency))?;

        let found = self.decisions.effective(&tenant, &member, &consistency).await?;
        answer(authz_show::effective(found))
    }

    async fn list_authorized_members(
        &self,
        request: Request<pb::ListAuthorizedMembersRequest>,
    ) -> Result<Response<pb::ListAuthorizedMembersResponse>, Status> {
        let (
            mut fields,
            pb::ListAuthorizedMembersRequest {
                tenant_id,
                permission,
                resource,
                page_size,
                page_token,
                consistency,
            },
        ) = read(request)?;
        let tenant: Sound<TenantId> = fields.tenant("tenant_id", &tenant_id);
        let permission = fields.required("permission", permission);
        let resource = values::optional_resource(&mut fields, "resource", resource);
        let consistency = values::consistency(&mut fields, consistency);
        let (tenant, permission, resource, consistency) =
            fields.all((tenant, permission, resource, consistency))?;
        let page = values::page(page_size, page_token);

        let Answer { value: Page { items, next_token }, catalog, token, stale_since } = self
            .roles
            .authorized_members(&tenant, &permission, resource.as_ref(), &page, &consistency)
            .await?;
        let show = |Authorized { member, decided_by }| pb::AuthorizedMember {
            member_id: member.to_string(),
            decided_by: show::deciding(catalog.as_deref(), decided_by),
        };
        answer(pb::ListAuthorizedMembersResponse {
            members: items.into_iter().map(show).collect(),
            next_page_token: next_token,
            consistency_token: token.unwrap_or_default(),
            stale_since: stale_since.map(show::time),
        })
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> Result<Response<pb::ExplainResponse>, Status> {
        let (mut fields, pb::ExplainRequest { tenant_id, member_id, permission, resource }) =
            read(request)?;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let question = question(&mut fields, None, member_id, permission, resource);
        let (tenant, question) = fields.all((tenant, question))?;

        let found = self.roles.explain(&tenant, &question).await?;
        answer(authz_show::explained(found))
    }

    type WatchStream = WatchStream;

    async fn watch(
        &self,
        request: Request<pb::WatchRequest>,
    ) -> Result<Response<WatchStream>, Status> {
        let proof = request.extensions().get::<Proof>().cloned();
        let (caller, message) = read_as_caller(request)?;
        let query = watch::query(Fields::of_message(Arc::clone(&caller)), message)?;
        let watching = self.watches.watch(&caller, query, watch::rights(proof)?).await?;
        Ok(Response::new(WatchStream::new(watching)))
    }
}

/// A question, by itself or as an item of a batch.
pub(super) fn question(
    fields: &mut Fields,
    item: Option<&Path<'_>>,
    member_id: String,
    permission: String,
    resource: Option<pb::Resource>,
) -> Sound<Question> {
    let path = |field| item.map_or(Path::Field(field), |item| item.then(field));
    let member = fields.id(path("member_id"), &member_id);
    let permission = fields.required(path("permission"), permission);
    let resource = values::optional_resource(fields, path("resource"), resource);
    Some(Question { member: member?, permission: permission?, resource: resource? })
}

/// One question of a batch, or the first thing that is wrong with it.
pub(super) fn check_item(index: usize, item: pb::CheckItem) -> Result<Question, Violation> {
    let pb::CheckItem { member_id, permission, resource } = item;
    let items = Path::from("items");
    let path = items.at(index);
    let mut fields = Fields::of_item();
    let question = question(&mut fields, Some(&path), member_id, permission, resource);
    fields.all_or_violations((question,)).map(|(question,)| question).map_err(|violations| {
        let nothing = || Violation::new(path.to_string(), Problem::Required);
        violations.into_iter().next().unwrap_or_else(nothing)
    })
}

/// Resources to choose from; the answer names them by their ids.
pub(super) fn candidates(
    fields: &mut Fields,
    resources: Vec<pb::Resource>,
) -> Sound<Vec<Resource>> {
    let path = Path::from("resources");
    fields.each(resources, |fields, index, resource| {
        let path = path.at(index);
        let resource = values::resource(fields, path, resource)?;
        if resource.id.is_empty() {
            return fields.wrong(path.then("id"), Problem::Required);
        }
        Some(resource)
    })
}
