//! What a change of roles means for a member.

use super::super::impact::{PermissionDelta, member_impact};
use super::super::member::{MemberStatus, Subject};
use super::super::relation::RelationSet;
use super::{catalog, subject};

fn shown(before: &Subject, after: Option<&Subject>) -> Vec<String> {
    let deltas = member_impact(&catalog(), before, after);
    deltas.iter().map(PermissionDelta::to_string).collect()
}

#[test]
fn each_permission_that_moves_is_told_with_its_scopes() {
    let catalog = catalog();
    let before = subject(
        &catalog,
        &[&["doc.open", "doc.view at desk", "doc.edit at own", "doc.delete", "doc.queue at made"]],
    );
    let after = subject(
        &catalog,
        &[&[
            "doc.open",
            "doc.view at all",
            "doc.edit at mine",
            "doc.delete",
            "doc.queue at waiting",
            "archive.list",
        ]],
    );
    assert_eq!(
        shown(&before, Some(&after)),
        [
            "gains   doc.view: desk -> all",
            "gains   doc.edit: own -> mine",
            // A follower moves along.
            "gains   doc.delete: own -> mine",
            "changes doc.queue: made -> waiting",
            "gains   archive.list: no -> yes",
        ]
    );
    let deltas = member_impact(&catalog, &before, Some(&after));
    let flags: Vec<_> = deltas.iter().map(|delta| (delta.gained(), delta.lost())).collect();
    assert_eq!(flags[0], (true, false));
    assert_eq!(flags[3], (true, true), "some gained, some lost");
    let back = member_impact(&catalog, &after, Some(&before));
    let flags: Vec<_> = back.iter().map(|delta| (delta.gained(), delta.lost())).collect();
    assert_eq!(flags[0], (false, true));
    assert_eq!(back[0].old.relations, RelationSet::ANY);
}

#[test]
fn only_what_the_union_over_roles_changes_counts() {
    let catalog = catalog();
    let wide = &["doc.open", "doc.view at all"][..];
    let before = subject(&catalog, &[wide, &["doc.open", "doc.view at own"]]);
    let after = subject(&catalog, &[wide]);
    assert_eq!(shown(&before, Some(&after)), [""; 0], "the other role gives it all the same");
    // A union that no scope names is spelled out.
    let one = subject(&catalog, &[&["doc.open", "doc.view at group"]]);
    let two =
        subject(&catalog, &[&["doc.open", "doc.view at group"], &["doc.open", "doc.view at mine"]]);
    assert_eq!(shown(&one, Some(&two)), ["gains   doc.view: group -> assignee or team or creator"]);
}

#[test]
fn a_member_that_is_archived_or_deleted_loses_what_everyone_has_too() {
    let catalog = catalog();
    let before = subject(&catalog, &[&["admin.roles"]]);
    let mut archived = before.clone();
    archived.status = MemberStatus::Archived;
    let lost = [
        "loses   doc.read_shared: shared -> no",
        "loses   admin.roles: yes -> no",
        "loses   admin.profile: yes -> no",
    ];
    assert_eq!(shown(&before, Some(&archived)), lost);
    assert_eq!(shown(&before, None), lost);
    assert_eq!(shown(&archived, None), [""; 0], "it had nothing");
    assert_eq!(shown(&archived, Some(&before)).len(), 3, "restored");
}
