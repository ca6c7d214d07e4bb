//! The questions of a ticketing service.

use rolegate::grpc::pb;
use rolegate::grpc::pb::consistency::Requirement;

use crate::common::{Failure, RoleNames, Rolegate, Story, said, show_decision, strings};

/// What the service knows of a ticket. Rolegate stores none of it.
#[derive(Clone)]
pub(crate) struct Ticket {
    pub(crate) id: &'static str,
    pub(crate) assignees: Vec<&'static str>,
    pub(crate) teams: Vec<&'static str>,
}

impl Ticket {
    /// A list without ids is sent as `none`: nobody, or no team. Leaving the field unset would say nothing.
    fn resource(&self) -> pb::Resource {
        pb::Resource {
            id: self.id.to_owned(),
            assignees: said(&self.assignees),
            teams: said(&self.teams),
            ..Default::default()
        }
    }
}

/// What the story expects of a check.
#[derive(Clone, Copy)]
pub(crate) enum Expect {
    Allowed,
    Denied(pb::DecisionReason),
}

/// One tenant's ticketing.
pub(crate) struct Asks {
    rolegate: Rolegate,
    tenant: &'static str,
    roles: RoleNames,
}

impl Asks {
    pub(crate) async fn of(mut rolegate: Rolegate, tenant: &'static str) -> Result<Self, Failure> {
        let roles = RoleNames::of(&mut rolegate, tenant).await?;
        Ok(Asks { rolegate, tenant, roles })
    }

    /// A decision for people.
    pub(crate) fn show(&self, decision: &pb::Decision) -> String {
        show_decision(decision, &self.roles)
    }

    /// The question before each step: may this member do this to this ticket?
    async fn check(
        &mut self,
        member: &str,
        permission: &str,
        resource: Option<pb::Resource>,
        requirement: Option<Requirement>,
    ) -> Result<pb::Decision, Failure> {
        let request = pb::CheckRequest {
            tenant_id: self.tenant.to_owned(),
            member_id: member.to_owned(),
            permission: permission.to_owned(),
            resource,
            consistency: requirement
                .map(|requirement| pb::Consistency { requirement: Some(requirement) }),
        };
        let answer = self.rolegate.authz.check(request).await?.into_inner();
        answer.decision.ok_or_else(|| "an answer without a decision".into())
    }

    /// Asks, tells, and compares.
    pub(crate) async fn may(
        &mut self,
        story: &mut Story,
        action: &str,
        member: &str,
        permission: &str,
        ticket: Option<&Ticket>,
        expect: Expect,
    ) -> Result<(), Failure> {
        let decision = self.check(member, permission, ticket.map(Ticket::resource), None).await?;
        let as_told = match expect {
            Expect::Allowed => decision.verdict() == pb::Verdict::Allowed,
            Expect::Denied(reason) => {
                decision.verdict() == pb::Verdict::Denied && decision.reason() == reason
            }
        };
        story.tell(action, &self.show(&decision), as_told);
        Ok(())
    }

    /// A careless caller: only the id, nothing about assignees and teams.
    pub(crate) async fn about_unsaid(
        &mut self,
        member: &str,
        permission: &str,
    ) -> Result<pb::Decision, Failure> {
        let resource = pb::Resource { id: "T-1043".to_owned(), ..Default::default() };
        self.check(member, permission, Some(resource), None).await
    }

    /// A check that reflects the write that the token came from, whatever the caches hold.
    pub(crate) async fn check_after(
        &mut self,
        member: &str,
        permission: &str,
        ticket: &Ticket,
        token: &str,
    ) -> Result<pb::Decision, Failure> {
        let tokens = pb::ConsistencyTokens { tokens: strings(&[token]) };
        let fresh = Requirement::AtLeastAsFresh(tokens);
        self.check(member, permission, Some(ticket.resource()), Some(fresh)).await
    }

    /// Everything that the page of one ticket needs, in one call and at one state.
    pub(crate) async fn buttons(
        &mut self,
        member: &str,
        ticket: &Ticket,
        permissions: &[&str],
    ) -> Result<Vec<bool>, Failure> {
        let items = self.batch(member, ticket, permissions).await?;
        let allowed = |item: &pb::CheckItemResult| match &item.result {
            Some(pb::check_item_result::Result::Decision(decision)) => {
                decision.verdict() == pb::Verdict::Allowed
            }
            // Whatever is wrong: no button.
            Some(pb::check_item_result::Result::Error(_)) | None => false,
        };
        Ok(items.iter().map(allowed).collect())
    }

    /// The error of a question that makes no sense; the question next to it is answered.
    pub(crate) async fn misspelt(
        &mut self,
        member: &str,
        ticket: &Ticket,
    ) -> Result<pb::ItemError, Failure> {
        use pb::check_item_result::Result::{Decision, Error};
        let items = self.batch(member, ticket, &["ticket.work", "ticket.delet"]).await?;
        let mut results = items.into_iter().filter_map(|item| item.result);
        match (results.next(), results.next()) {
            (Some(Decision(_)), Some(Error(error))) => Ok(error),
            other => Err(format!("expected a decision and an error, got {other:?}").into()),
        }
    }

    async fn batch(
        &mut self,
        member: &str,
        ticket: &Ticket,
        permissions: &[&str],
    ) -> Result<Vec<pb::CheckItemResult>, Failure> {
        let item = |permission: &&str| pb::CheckItem {
            member_id: member.to_owned(),
            permission: (*permission).to_owned(),
            resource: Some(ticket.resource()),
        };
        let request = pb::BatchCheckRequest {
            tenant_id: self.tenant.to_owned(),
            items: permissions.iter().map(item).collect(),
            consistency: None,
        };
        Ok(self.rolegate.authz.batch_check(request).await?.into_inner().items)
    }

    /// The sections that a member's menus show.
    pub(crate) async fn menus(&mut self, member: &str) -> Result<Vec<String>, Failure> {
        let request = pb::ListEffectivePermissionsRequest {
            tenant_id: self.tenant.to_owned(),
            member_id: member.to_owned(),
            consistency: None,
        };
        let answer = self.rolegate.authz.list_effective_permissions(request).await?.into_inner();
        Ok(answer.visible_section_ids)
    }

    /// Everybody who may do this to this ticket.
    pub(crate) async fn who_may(
        &mut self,
        permission: &str,
        ticket: &Ticket,
    ) -> Result<Vec<String>, Failure> {
        let mut members = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = pb::ListAuthorizedMembersRequest {
                tenant_id: self.tenant.to_owned(),
                permission: permission.to_owned(),
                resource: Some(ticket.resource()),
                page_size: 0,
                page_token,
                consistency: None,
            };
            let page = self.rolegate.authz.list_authorized_members(request).await?.into_inner();
            members.extend(page.members.into_iter().map(|member| member.member_id));
            if page.next_page_token.is_empty() {
                return Ok(members);
            }
            page_token = page.next_page_token;
        }
    }

    /// A decision with all that led to it.
    pub(crate) async fn explain(
        &mut self,
        member: &str,
        permission: &str,
        ticket: &Ticket,
    ) -> Result<pb::ExplainResponse, Failure> {
        let request = pb::ExplainRequest {
            tenant_id: self.tenant.to_owned(),
            member_id: member.to_owned(),
            permission: permission.to_owned(),
            resource: Some(ticket.resource()),
        };
        Ok(self.rolegate.authz.explain(request).await?.into_inner())
    }

    /// Gives a member these roles, and answers with the token of the state after that.
    pub(crate) async fn assign(&mut self, member: &str, roles: &[&str]) -> Result<String, Failure> {
        let request = pb::AssignRolesRequest {
            tenant_id: self.tenant.to_owned(),
            member_id: member.to_owned(),
            role_ids: strings(roles),
            no_roles: roles.is_empty(),
            ..Default::default()
        };
        Ok(self.rolegate.members.assign_roles(request).await?.into_inner().consistency_token)
    }
}
