//! The audit trail as a chain: whoever edits it is found out, and what the service itself takes away
//! does not look like an edit.

use std::time::Duration;

use migrations::MigratorTrait;
use rolegate::domain::Timestamp;
use rolegate::domain::ids::TenantId;
use rolegate::domain::tenant::{Tenant, TenantState};
use rolegate::store::{
    AuditEntry, AuditFilter, AuditKey, AuditKeyChoice, Head, Keyring, OpenError, OpenOptions,
    Rotated, SignedHead, SqlStore, StoreError, Touched, Verified,
};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use serde_json::json;

use super::backend::{
    Database, commit, entry, make_tenant, member, member_id, member_ids, role_ids, tenant,
    tenant_id,
};

async fn connect(options: &OpenOptions) -> DatabaseConnection {
    sea_orm::Database::connect(&options.url).await.unwrap()
}

fn ring(store: &SqlStore) -> Keyring {
    Keyring::new(store.database_audit_key().clone(), [])
}

async fn verify(store: &SqlStore, tenant: &TenantId, exported: &[SignedHead]) -> Verified {
    store.verify_audit(tenant, &ring(store), exported).await.unwrap()
}

async fn assert_sound(store: &SqlStore, tenant: &TenantId) {
    let verified = verify(store, tenant, &[]).await;
    assert!(verified.is_sound(), "{verified:?}");
}

async fn head(store: &SqlStore, tenant: &TenantId) -> Head {
    store.read().await.unwrap().trail(tenant).await.unwrap().head.unwrap()
}

async fn signed(store: &SqlStore, tenant: &TenantId) -> SignedHead {
    store.sign_head(tenant, &head(store, tenant).await, store.database_audit_key())
}

async fn record(store: &SqlStore, tenant: &TenantId, entry: AuditEntry) {
    let tx = store.write(tenant).await.unwrap();
    tx.commit(Touched::Nothing, entry).await.unwrap();
}

async fn erase(store: &SqlStore, tenant: &TenantId, member: &str, at: i64) {
    let tx = store.write(tenant).await.unwrap();
    tx.erase_member(&member_id(member)).await.unwrap();
    tx.commit(Touched::Nothing, entry(at)).await.unwrap();
}

/// Makes those who act and are acted on, without any event.
async fn add_members(store: &SqlStore, tenant: &TenantId) {
    let tx = store.write(tenant).await.unwrap();
    tx.put_members(&["ada", "kim", "lee"].map(|id| member(id, &[], &[]))).await.unwrap();
    tx.commit_unchanged().await.unwrap();
}

/// Everything that an event can have.
fn full(actor: &str, about: &str, at: i64) -> AuditEntry {
    AuditEntry {
        actor: Some(member_id(actor)),
        request_id: Some("q-1".into()),
        roles: role_ids(&["r"]),
        members: member_ids(&[about]),
        before: Some(json!(member(about, &["r"], &[]))),
        after: Some(json!(member(about, &[], &[]))),
        ..entry(at)
    }
}

/// Two trails; in that of `acme`, kim was erased by event 5 from events 2 and 4.
async fn trails(store: &SqlStore) -> (TenantId, TenantId) {
    let (acme, other) = (make_tenant(store, "acme").await, make_tenant(store, "other").await);
    add_members(store, &acme).await;
    record(store, &acme, full("kim", "lee", 10)).await;
    store.record_refusal(&acme, full("lee", "ada", 20), "REFUSED").await.unwrap();
    record(store, &acme, full("lee", "kim", 30)).await;
    erase(store, &acme, "kim", 40).await;
    record(store, &acme, full("lee", "ada", 50)).await;
    record(store, &other, full("kim", "lee", 10)).await;
    (acme, other)
}

const KEPT: [&str; 4] = ["audit", "audit_subjects", "audit_heads", "tenants"];

async fn keep(connection: &DatabaseConnection, prefix: &str) {
    for table in KEPT {
        let sql = format!("CREATE TABLE {prefix}_{table} AS SELECT * FROM {table}");
        connection.execute_unprepared(&sql).await.unwrap();
    }
}

async fn restore(connection: &DatabaseConnection, prefix: &str) {
    for table in ["audit_subjects", "audit", "audit_heads"] {
        connection.execute_unprepared(&format!("DELETE FROM {table}")).await.unwrap();
    }
    for table in ["audit", "audit_subjects", "audit_heads"] {
        let sql = format!("INSERT INTO {table} SELECT * FROM {prefix}_{table}");
        connection.execute_unprepared(&sql).await.unwrap();
    }
    let revisions = format!(
        "UPDATE tenants SET revision = (SELECT revision FROM {prefix}_tenants old WHERE old.id = \
         tenants.id)"
    );
    connection.execute_unprepared(&revisions).await.unwrap();
}

/// An edit of event `n` of acme.
fn edit(n: i64, change: &str) -> String {
    format!("UPDATE audit SET {change} WHERE tenant_id = 'acme' AND number = {n}")
}

fn of_subjects(n: i64, statement: &str) -> String {
    format!(
        "{statement} audit_seq = (SELECT seq FROM audit WHERE tenant_id = 'acme' AND number = {n})"
    )
}

pub(super) async fn every_edit_is_found(database: &Database) {
    let store = &database.store;
    let (acme, other) = trails(store).await;
    let connection = connect(&database.options).await;
    keep(&connection, "kept").await;
    let hex = |byte: &str| byte.repeat(32);
    let delete = |n: i64| format!("DELETE FROM audit WHERE tenant_id = 'acme' AND number = {n}");
    let cut = "UPDATE audit_heads SET number = 5, link = (SELECT link FROM audit WHERE tenant_id = \
               'acme' AND number = 5) WHERE tenant_id = 'acme'";
    let cases: Vec<(Vec<String>, Option<i64>, &str)> = vec![
        // Every column of an event. The row's own number, `seq`, says nothing.
        (vec![edit(6, "number = 7")], Some(7), "gap"),
        (vec![edit(6, "number = NULL")], None, "unchained"),
        (vec![edit(3, "tenant_id = 'other'")], Some(4), "gap"),
        (vec![edit(3, "revision = 9")], Some(3), "link"),
        (vec![edit(3, "at = 21")], Some(3), "link"),
        (vec![edit(3, "caller = 'else'")], Some(3), "link"),
        (vec![edit(3, "method = 'Else'")], Some(3), "link"),
        (vec![edit(3, "refusal = NULL")], Some(3), "link"),
        (vec![edit(3, "refusal = 'ELSE'")], Some(3), "link"),
        (vec![edit(3, "actor = 'ada'")], Some(3), "value"),
        (vec![edit(3, "actor = NULL")], Some(3), "value"),
        (vec![edit(3, "request_id = ''")], Some(3), "value"),
        (vec![edit(3, "\"before\" = NULL")], Some(3), "value"),
        (vec![edit(3, "\"after\" = '{}'")], Some(3), "value"),
        (vec![edit(3, "key_id = '0123456789abcdef'")], Some(3), "unknown_key"),
        (vec![edit(3, &format!("link = '{}'", hex("ab")))], Some(3), "link"),
        (vec![edit(3, "link = upper(link)")], Some(3), "link"),
        (vec![edit(3, "salt = '00112233445566778899aabbccddeeff'")], Some(3), "value"),
        (vec![edit(3, "salt = 'x'")], Some(3), "unreadable"),
        (vec![edit(3, &format!("covered = '{} - - - -'", hex("ab")))], Some(3), "link"),
        (vec![edit(3, "covered = NULL")], Some(3), "unreadable"),
        (vec![edit(3, "digests = covered")], Some(3), "unreadable"),
        (vec![edit(3, "erased = '1:00'")], Some(3), "link"),
        // What it is about.
        (vec![of_subjects(3, "UPDATE audit_subjects SET subject_id = 'else' WHERE kind = 'member' AND")],
            Some(3), "value"),
        (vec![of_subjects(3, "UPDATE audit_subjects SET kind = 'role' WHERE kind = 'member' AND")],
            Some(3), "value"),
        (vec![of_subjects(3, "UPDATE audit_subjects SET tenant_id = 'other' WHERE")],
            Some(3), "value"),
        (vec![of_subjects(3, "DELETE FROM audit_subjects WHERE kind = 'role' AND")], Some(3), "value"),
        (vec!["INSERT INTO audit_subjects SELECT seq, 'acme', 'member', 'bob' FROM audit WHERE \
               tenant_id = 'acme' AND number = 3".into()], Some(3), "value"),
        // Of one that something was erased from.
        (vec![edit(2, "actor = 'ada'")], Some(2), "value"),
        (vec![edit(4, "\"before\" = '{}'")], Some(4), "value"),
        (vec![edit(2, "salt = '00112233445566778899aabbccddeeff'")], Some(2), "value"),
        (vec![edit(2, "digests = covered")], Some(2), "false_erasure"),
        (vec![edit(2, "rewrites = NULL")], Some(2), "unreadable"),
        (vec![edit(2, "rewrites = NULL, digests = NULL")], Some(5), "erasure"),
        (vec![edit(2, "rewrites = replace(rewrites, '\"by\":5', '\"by\":6')")], Some(2), "false_erasure"),
        (vec![edit(2, "rewrites = replace(rewrites, ',', ', ')")], Some(2), "unreadable"),
        (vec![edit(2, "rewrites = replace(rewrites, '\"by\"', '\"of\":\"kim\",\"by\"')")],
            Some(2), "unreadable"),
        // Of the erasing one.
        (vec![edit(5, "erased = NULL")], Some(5), "erasure"),
        (vec![edit(5, "erased = '1:00'")], Some(5), "link"),
        // Passing an edit off as an erasure, with what a real one left.
        (vec![edit(3, "actor = 'ada', digests = (SELECT digests FROM audit o WHERE o.tenant_id = \
                'acme' AND o.number = 2), rewrites = (SELECT rewrites FROM audit o WHERE o.tenant_id \
                = 'acme' AND o.number = 2), salt = (SELECT salt FROM audit o WHERE o.tenant_id = \
                'acme' AND o.number = 2)")], Some(3), "false_erasure"),
        // Whole events.
        (vec![delete(1)], Some(2), "gap"),
        (vec![delete(3)], Some(4), "gap"),
        (vec![delete(2)], Some(5), "erasure"),
        (vec![delete(6)], Some(6), "gap"),
        (vec![edit(3, "number = -1"), edit(6, "number = 3"), edit(-1, "number = 6")], Some(3), "link"),
        (vec!["INSERT INTO audit (seq, tenant_id, revision, at, caller, method, number, key_id, link, \
               salt, covered) SELECT seq + 1000, tenant_id, revision, at, caller, method, 7, key_id, \
               link, salt, '- - - - -' FROM audit WHERE tenant_id = 'acme' AND number = 1".into()],
            Some(7), "link"),
        // The end.
        (vec!["UPDATE audit_heads SET number = 5 WHERE tenant_id = 'acme'".into()], Some(6), "head"),
        (vec!["UPDATE audit_heads SET number = 7 WHERE tenant_id = 'acme'".into()], Some(7), "gap"),
        (vec![format!("UPDATE audit_heads SET link = '{}' WHERE tenant_id = 'acme'", hex("ab"))],
            Some(6), "head"),
        (vec!["UPDATE audit_heads SET key_id = '0123456789abcdef' WHERE tenant_id = 'acme'".into()],
            Some(6), "head"),
        (vec!["DELETE FROM audit_heads WHERE tenant_id = 'acme'".into()], None, "head"),
        (vec![delete(6), cut.to_owned()], None, "revision"),
        (vec!["DELETE FROM audit WHERE tenant_id = 'acme'".into(),
              "DELETE FROM audit_heads WHERE tenant_id = 'acme'".into()], None, "head"),
        (vec!["DELETE FROM audit WHERE tenant_id = 'acme'".into(), format!(
              "UPDATE audit_heads SET number = 0, link = '{}' WHERE tenant_id = 'acme'", hex("00"))],
            None, "revision"),
    ];
    for (statements, event, problem) in cases {
        for statement in &statements {
            let done = connection.execute_unprepared(statement).await;
            let done = done.unwrap_or_else(|error| panic!("{statement}: {error}"));
            assert!(done.rows_affected() > 0, "{statement}");
        }
        let verified = verify(store, &acme, &[]).await;
        let found = verified.findings.iter().any(|f| (f.event, f.problem) == (event, problem));
        assert!(found, "{statements:?}: {verified:#?}");
        restore(&connection, "kept").await;
        assert_sound(store, &acme).await;
    }
    // One that was moved is too much where it is now.
    connection.execute_unprepared(&edit(3, "tenant_id = 'other'")).await.unwrap();
    let verified = verify(store, &other, &[]).await;
    assert_eq!((verified.findings[0].event, verified.findings[0].problem), (Some(3), "link"));
    restore(&connection, "kept").await;
    assert_sound(store, &other).await;
    connection.close().await.unwrap();
}

pub(super) async fn an_end_that_was_cut_off_is_found_with_an_exported_head(database: &Database) {
    let store = &database.store;
    let (acme, _) = trails(store).await;
    let before = signed(store, &acme).await;
    record(store, &acme, entry(60)).await;
    assert!(verify(store, &acme, std::slice::from_ref(&before)).await.is_sound());
    let after = signed(store, &acme).await;
    let connection = connect(&database.options).await;
    for statement in [
        "DELETE FROM audit WHERE tenant_id = 'acme' AND number = 7",
        "UPDATE audit_heads SET number = 6, link = (SELECT link FROM audit WHERE tenant_id = 'acme' \
         AND number = 6) WHERE tenant_id = 'acme'",
        "DELETE FROM changes WHERE tenant_id = 'acme' AND revision = (SELECT revision FROM tenants \
         WHERE id = 'acme')",
        "UPDATE tenants SET revision = revision - 1 WHERE id = 'acme'",
    ] {
        assert_eq!(connection.execute_unprepared(statement).await.unwrap().rows_affected(), 1);
    }
    connection.close().await.unwrap();
    let unaware = verify(store, &acme, std::slice::from_ref(&before)).await;
    assert!(unaware.is_sound(), "nothing else knows of it: {unaware:?}");
    let findings = verify(store, &acme, &[before, after.clone()]).await.findings;
    assert_eq!((findings[0].event, findings[0].problem), (Some(7), "cut"));
    // Another event in its place has another link.
    record(store, &acme, entry(70)).await;
    let findings = verify(store, &acme, std::slice::from_ref(&after)).await.findings;
    assert_eq!((findings[0].event, findings[0].problem), (Some(7), "not_as_exported"));
    // Heads cannot be made up, either.
    let forged = SignedHead { number: 6, ..after };
    let findings = verify(store, &acme, &[forged]).await.findings;
    assert_eq!((findings[0].event, findings[0].problem), (Some(6), "head_forged"));
}

pub(super) async fn an_end_that_was_cut_off_is_found_after_the_next_write(database: &Database) {
    let store = &database.store;
    let (acme, other) = trails(store).await;
    record(store, &other, entry(20)).await;
    let connection = connect(&database.options).await;
    for tenant in ["acme", "other"] {
        for statement in [
            "DELETE FROM audit WHERE tenant_id = 'T' AND number = (SELECT number FROM audit_heads \
             WHERE tenant_id = 'T')",
            "UPDATE audit_heads SET number = number - 1, link = (SELECT link FROM audit WHERE \
             tenant_id = 'T' AND number = audit_heads.number - 1) WHERE tenant_id = 'T'",
        ] {
            let statement = statement.replace("'T'", &format!("'{tenant}'"));
            let done = connection.execute_unprepared(&statement).await.unwrap();
            assert_eq!(done.rows_affected(), 1, "{statement}");
        }
    }
    connection.close().await.unwrap();
    record(store, &acme, entry(60)).await;
    let findings = verify(store, &acme, &[]).await.findings;
    assert_eq!((findings.len(), findings[0].event, findings[0].problem), (1, Some(6), "revision"));
    // A restore adds to the revisions, and does not cover it up, either.
    restored(database).await.close().await;
    let findings = verify(store, &other, &[]).await.findings;
    assert_eq!((findings.len(), findings[0].event, findings[0].problem), (1, Some(3), "revision"));
}

async fn restored(database: &Database) -> SqlStore {
    let options = OpenOptions { migrate: true, after_restore: true, ..database.options.clone() };
    SqlStore::open(&options).await.unwrap()
}

pub(super) async fn a_restore_is_an_event_of_every_trail(database: &Database) {
    let store = &database.store;
    let (acme, other) = trails(store).await;
    let tenants = [(acme, 7), (other, 3)];
    for round in 0..2 {
        let replica = restored(database).await;
        for (tenant, last) in &tenants {
            let verified = verify(&replica, tenant, &[]).await;
            assert!(verified.is_sound(), "{verified:?}");
            assert_eq!(verified.last, last + 2 * round, "{tenant}");
            record(&replica, tenant, entry(60)).await;
            assert_sound(&replica, tenant).await;
        }
        replica.close().await;
    }
    // Nothing else may say so.
    let connection = connect(&database.options).await;
    connection.execute_unprepared(&edit(7, "method = 'Test'")).await.unwrap();
    connection.close().await.unwrap();
    let findings = verify(store, &tenants[0].0, &[]).await.findings;
    let found: Vec<_> = findings.iter().map(|f| (f.event, f.problem)).collect();
    assert_eq!(found, [(Some(7), "link"), (Some(7), "revision")]);
}

pub(super) async fn an_erasure_cannot_be_undone_and_leaves_no_salt(database: &Database) {
    let store = &database.store;
    let acme = make_tenant(store, "acme").await;
    for (actor, about) in [("kim", "lee"), ("lee", "kim"), ("lee", "ada")] {
        record(store, &acme, full(actor, about, 10)).await;
    }
    let connection = connect(&database.options).await;
    keep(&connection, "before").await;
    let records = async || {
        let tx = store.read().await.unwrap();
        tx.trail_records(&acme, None, 99).await.unwrap()
    };
    let before = records().await;
    erase(store, &acme, "kim", 20).await;
    assert_sound(store, &acme).await;
    let after = records().await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before.link, &before.covered), (&after.link, &after.covered));
        let erased = [2, 3].contains(&after.number);
        assert_eq!(before.salt != after.salt, erased, "{after:?}");
        assert!(!erased || !format!("{after:?}").contains(&before.salt), "{after:?}");
    }
    assert!(!format!("{after:?}").contains("\"kim\""), "{after:?}");
    // Both are erased from the same events, one after the other.
    erase(store, &acme, "lee", 30).await;
    assert_sound(store, &acme).await;
    // Somebody puts events back who kept them from before.
    for n in [2, 3] {
        keep(&connection, &format!("now{n}")).await;
        let columns = ["actor", "\"before\"", "\"after\"", "salt", "digests", "rewrites"];
        let old = columns.map(|column| {
            let table = "before_audit old WHERE old.seq = audit.seq";
            format!("{column} = (SELECT {column} FROM {table})")
        });
        connection.execute_unprepared(&edit(n, &old.join(", "))).await.unwrap();
        for statement in [
            of_subjects(n, "DELETE FROM audit_subjects WHERE"),
            of_subjects(n, "INSERT INTO audit_subjects SELECT * FROM before_audit_subjects WHERE"),
        ] {
            connection.execute_unprepared(&statement).await.unwrap();
        }
        let findings = verify(store, &acme, &[]).await.findings;
        let found: Vec<_> = findings.iter().map(|f| (f.event, f.problem)).collect();
        assert_eq!(found, [(Some(5), "erasure"), (Some(6), "erasure")], "{n}");
        restore(&connection, &format!("now{n}")).await;
        assert_sound(store, &acme).await;
    }
    connection.close().await.unwrap();
}

pub(super) async fn an_erasure_vouches_for_nothing_that_was_edited(database: &Database) {
    let store = &database.store;
    let acme = make_tenant(store, "acme").await;
    let other = make_tenant(store, "other").await;
    for at in 10..16 {
        record(store, &acme, full("lee", "ada", at)).await;
    }
    record(store, &other, full("lee", "ada", 10)).await;
    erase(store, &acme, "lee", 20).await;
    assert_sound(store, &acme).await;
    let connection = connect(&database.options).await;
    keep(&connection, "kept").await;
    let planted = |column: &str| {
        format!(
            "{column} = (SELECT {column} FROM audit o WHERE o.tenant_id = 'acme' AND o.number = 2)"
        )
    };
    // Each for an event of its own. The member is named by a row that somebody put in.
    let edits = [
        (3, "\"after\" = '{\"id\":\"eve\"}'".to_owned(), "value"),
        (4, "actor = 'eve'".to_owned(), "value"),
        (5, "salt = '00112233445566778899aabbccddeeff'".to_owned(), "value"),
        (6, ["actor", "salt", "digests", "covered"].map(planted).join(", "), "false_erasure"),
        (7, "rewrites = replace(rewrites, '\"by\":8', '\"by\":9')".to_owned(), "false_erasure"),
    ];
    for (n, change, _) in &edits {
        connection.execute_unprepared(&edit(*n, change)).await.unwrap();
    }
    // Of another tenant: nothing of it is this one's to rewrite.
    for of in
        ["tenant_id = 'acme' AND number BETWEEN 3 AND 7", "tenant_id = 'other' AND number = 2"]
    {
        let name = format!(
            "INSERT INTO audit_subjects SELECT seq, 'acme', 'member', 'mallory' FROM audit WHERE {of}"
        );
        assert!(connection.execute_unprepared(&name).await.unwrap().rows_affected() > 0);
    }
    erase(store, &acme, "mallory", 30).await;
    // What only had to stand there while the member was erased is put back.
    let back = "covered = (SELECT covered FROM kept_audit old WHERE old.seq = audit.seq)";
    connection.execute_unprepared(&edit(6, back)).await.unwrap();
    let findings = verify(store, &acme, &[]).await.findings;
    for (n, change, problem) in &edits {
        let found = findings.iter().any(|f| (f.event, f.problem) == (Some(*n), *problem));
        assert!(found, "{n} {change}: {findings:#?}");
    }
    let tx = store.read().await.unwrap();
    let left = format!("{:?}", tx.trail_records(&acme, None, 99).await.unwrap());
    assert!(!left.contains("mallory"), "erased all the same: {left}");
    let theirs = tx.trail_records(&other, None, 9).await.unwrap();
    assert!(theirs.iter().all(|event| event.rewrites.is_none()), "{theirs:?}");
    connection.close().await.unwrap();
}

pub(super) async fn what_is_deleted_for_its_age_leaves_a_checkpoint(database: &Database) {
    let store = &database.store;
    let (acme, other) = trails(store).await;
    let early = signed(store, &acme).await;
    let connection = connect(&database.options).await;
    // Event 2 goes, whose erasure stays. Then event 4, too.
    for (before, left) in [(15, 4), (15, 4), (35, 2)] {
        store.trim_audit(Timestamp(before)).await.unwrap();
        let verified = verify(store, &acme, std::slice::from_ref(&early)).await;
        assert!(verified.is_sound(), "{verified:?}");
        assert_eq!(verified.events, left);
    }
    assert_sound(store, &other).await;
    let columns = "number = 3|link = repeat('ab', 32)|link_key_id = 'x'|revision = 1|at = 1|\
                   deleted = 1|pending = '[]'|key_id = 'x'|mac = repeat('ab', 32)";
    let sql = "CREATE TABLE kept AS SELECT * FROM audit_checkpoints";
    connection.execute_unprepared(sql).await.unwrap();
    let spoils = columns.split('|').map(|change| {
        let change = change.replace("repeat('ab', 32)", &format!("'{}'", "ab".repeat(32)));
        format!("UPDATE audit_checkpoints SET {change} WHERE tenant_id = 'acme'")
    });
    for spoil in spoils {
        connection.execute_unprepared(&spoil).await.unwrap();
        let findings = verify(store, &acme, &[]).await.findings;
        assert!(findings.iter().any(|f| f.problem == "checkpoint"), "{spoil}: {findings:?}");
        // It is not trimmed any further: a new checkpoint would cover that up.
        assert_eq!(store.trim_audit(Timestamp(45)).await.unwrap(), 0, "{spoil}");
        for undo in
            ["DELETE FROM audit_checkpoints", "INSERT INTO audit_checkpoints SELECT * FROM kept"]
        {
            connection.execute_unprepared(undo).await.unwrap();
        }
        assert_sound(store, &acme).await;
    }
    connection.execute_unprepared("DELETE FROM audit_checkpoints").await.unwrap();
    let findings = verify(store, &acme, &[]).await.findings;
    assert_eq!((findings[0].event, findings[0].problem), (Some(5), "gap"));
    assert_eq!(store.trim_audit(Timestamp(45)).await.unwrap(), 0, "a gap is not covered up");
    let sql = "INSERT INTO audit_checkpoints SELECT * FROM kept";
    connection.execute_unprepared(sql).await.unwrap();
    connection.close().await.unwrap();
    // All of it, and then more.
    assert_eq!(store.trim_audit(Timestamp(1000)).await.unwrap(), 2);
    assert_sound(store, &acme).await;
    record(store, &acme, full("lee", "ada", 60)).await;
    erase(store, &acme, "ada", 70).await;
    let verified = verify(store, &acme, &[early]).await;
    assert!(verified.is_sound(), "{verified:?}");
    assert_eq!((verified.deleted_until, verified.last, verified.events), (6, 8, 2));
}

pub(super) async fn what_was_edited_is_not_deleted_for_its_age(database: &Database) {
    let store = &database.store;
    let (acme, _) = trails(store).await;
    let connection = connect(&database.options).await;
    keep(&connection, "kept").await;
    for (change, before, problem) in [
        // Young events are made to look old, the last of those that go has no link to go on from,
        // and values are edited that nobody would see any more.
        (edit(3, "at = 0").replace("number = 3", "number > 2"), 15, "link"),
        (edit(2, "link = ''"), 15, "link"),
        (edit(1, "caller = 'else'"), 15, "link"),
        (edit(2, "actor = 'else'"), 15, "value"),
        (edit(2, "rewrites = NULL, digests = NULL"), 45, "value"),
        (of_subjects(2, "DELETE FROM audit_subjects WHERE"), 15, "value"),
    ] {
        let done = connection.execute_unprepared(&change).await.unwrap();
        assert!(done.rows_affected() > 0, "{change}");
        store.trim_audit(Timestamp(before)).await.unwrap();
        let Verified { findings, deleted_until, .. } = verify(store, &acme, &[]).await;
        assert_eq!(deleted_until, 0, "{change}");
        assert!(findings.iter().any(|f| f.problem == problem), "{change}: {findings:?}");
        restore(&connection, "kept").await;
    }
    connection.close().await.unwrap();
    assert_sound(store, &acme).await;
    assert_eq!(store.trim_audit(Timestamp(15)).await.unwrap(), 2);
}

pub(super) async fn a_deletion_is_proven_by_its_event_and_nothing_else(database: &Database) {
    let store = &database.store;
    let acme = make_tenant(store, "acme").await;
    add_members(store, &acme).await;
    let connection = connect(&database.options).await;
    let proven = async |before: i64| {
        let tx = store.write(&acme).await.unwrap();
        tx.was_deleted_before(Timestamp(before)).await.unwrap()
    };
    let call = async |method: &str, at: i64| {
        let method = format!("TenantService/{method}");
        record(store, &acme, AuditEntry { method, ..entry(at) }).await;
    };
    let sql = "UPDATE tenants SET state = 'deleted', purge_at = 0";
    connection.execute_unprepared(sql).await.unwrap();
    assert!(!proven(99).await, "nobody deleted it");
    let attempt =
        AuditEntry { method: "TenantService/DeleteTenant".into(), ..full("kim", "lee", 1) };
    store.record_refusal(&acme, attempt, "R").await.unwrap();
    assert!(!proven(99).await, "that was refused");
    call("DeleteTenant", 10).await;
    assert_eq!((proven(10).await, proven(11).await), (false, true));
    call("UndeleteTenant", 20).await;
    assert!(!proven(99).await, "it was brought back");
    call("DeleteTenant", 30).await;
    record(store, &acme, entry(40)).await;
    assert_eq!((proven(30).await, proven(31).await), (false, true));
    keep(&connection, "kept").await;
    let last = head(store, &acme).await.number;
    for change in [
        edit(last - 1, "at = 5"),
        edit(last - 1, "method = 'Test'"),
        edit(last - 1, "link = ''"),
        edit(last, "caller = 'else'"),
        edit(last, "method = 'TenantService/DeleteTenant', at = 5"),
        "UPDATE tenants SET revision = revision + 1".to_owned(),
    ] {
        connection.execute_unprepared(&change).await.unwrap();
        assert!(!proven(31).await, "{change}");
        restore(&connection, "kept").await;
        assert!(proven(31).await, "{change}");
    }
    connection.close().await.unwrap();
    // It stays as long as purging may go by it.
    assert_eq!(store.trim_audit(Timestamp(99)).await.unwrap(), 2);
    assert!(proven(31).await);
}

pub(super) async fn a_refusal_names_members_only(database: &Database) {
    let store = &database.store;
    let acme = make_tenant(store, "acme").await;
    add_members(store, &acme).await;
    store.record_refusal(&acme, full("mallory", "lee", 10), "R").await.unwrap();
    store
        .record_refusal(&acme, AuditEntry { actor: None, ..full("kim", "lee", 10) }, "R")
        .await
        .unwrap();
    assert_eq!(head(store, &acme).await.number, 1, "nobody to hold to account");
    let strangers =
        AuditEntry { members: member_ids(&["mallory", "lee"]), ..full("kim", "mallory", 10) };
    store.record_refusal(&acme, strangers, "R").await.unwrap();
    assert_sound(store, &acme).await;
    let tx = store.read().await.unwrap();
    let tried = tx.trail_records(&acme, Some(1), 9).await.unwrap();
    let about: Vec<_> = tried[0].subjects.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!(about, ["lee", "r"]);
    assert!(tried[0].before.as_ref().unwrap().contains("not-a-member"), "{tried:?}");
    assert!(!format!("{tried:?}").contains("mallory"), "{tried:?}");
}

pub(super) async fn a_purged_tenant_keeps_its_place_and_no_value(database: &Database) {
    let store = &database.store;
    let (acme, other) = trails(store).await;
    let early = signed(store, &acme).await;
    let tx = store.write(&acme).await.unwrap();
    tx.delete_tenant_data().await.unwrap();
    tx.put_tenant(&Tenant { state: TenantState::Purged, ..tenant("acme") }).await.unwrap();
    commit(tx).await;
    let verified = verify(store, &acme, &[early]).await;
    assert!(verified.is_sound(), "{verified:?}");
    assert_eq!((verified.deleted_until, verified.last, verified.events), (6, 7, 1));
    let tx = store.read().await.unwrap();
    let left = format!(
        "{:?} {:?}",
        tx.trail(&acme).await.unwrap(),
        tx.trail_records(&acme, None, 9).await.unwrap()
    );
    // With their quotes: in hexadecimal there may be an "ada" too.
    assert!(!["\"lee", "\"ada", "erased-"].iter().any(|value| left.contains(value)), "{left}");
    assert_sound(store, &other).await;
}

pub(super) async fn writers_at_the_same_time_make_one_chain(database: &Database) {
    let (one, two) = (database.store.clone(), database.replica().await);
    let acme = make_tenant(&one, "acme").await;
    add_members(&one, &acme).await;
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..40 {
        let (store, acme) = ([&one, &two][n % 2].clone(), acme.clone());
        writers.spawn(async move {
            match n % 4 {
                0 => store.record_refusal(&acme, full("kim", "lee", 5), "R").await.unwrap(),
                1 if n > 20 => erase(&store, &acme, "lee", 5).await,
                _ => record(&store, &acme, full("kim", "lee", 5)).await,
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let verified = verify(&one, &acme, &[]).await;
    assert!(verified.is_sound(), "{verified:?}");
    assert_eq!(verified.events, 41);
    two.close().await;
}

fn key(letter: &str) -> AuditKey {
    AuditKey::from_file(format!("{}\n", letter.repeat(64)).as_bytes()).unwrap()
}

pub(super) async fn a_new_key_takes_over(database: &Database) {
    let with = |key: &AuditKey| OpenOptions {
        audit_key: AuditKeyChoice::Given(key.clone()),
        ..database.options.clone()
    };
    let old = &database.store;
    let (acme, other) = trails(old).await;
    assert_eq!(old.trim_audit(Timestamp(5)).await.unwrap(), 2);
    let after = |key: &AuditKey, of: Option<Vec<String>>, of_database: bool| OpenOptions {
        audit_key: AuditKeyChoice::Successor { key: key.clone(), of, of_database },
        ..database.options.clone()
    };
    // By itself no key takes over, and none without the one before.
    for _ in 0..2 {
        let unknown = SqlStore::open(&with(&key("a"))).await;
        assert!(matches!(unknown, Err(OpenError::AuditKeyUnknown { .. })), "{unknown:?}");
        let of = Some(vec![key("b").id().to_owned()]);
        let unproven = SqlStore::open(&after(&key("a"), of, false)).await;
        assert!(matches!(unproven, Err(OpenError::AuditKeyUnproven { .. })), "{unproven:?}");
        SqlStore::open(&database.options).await.unwrap().close().await;
    }
    let new = SqlStore::open(&after(&key("a"), Some(vec![]), true)).await.unwrap();
    let ring = |keys: &[AuditKey]| Keyring::new(keys[0].clone(), keys[1..].iter().cloned());
    let keys = ring(&[key("a"), old.database_audit_key().clone()]);
    let problems = async |tenant: &TenantId, keys: &Keyring| {
        let findings = new.verify_audit(tenant, keys, &[]).await.unwrap().findings;
        let mut problems: Vec<_> = findings.iter().map(|f| f.problem).collect();
        problems.dedup();
        problems
    };
    assert_eq!(problems(&other, &keys).await, ["old_key"]);
    // Nothing goes on from what the old key vouches for, whatever the head says of it.
    let connection = connect(&database.options).await;
    let claim = |id: &str| format!("UPDATE audit_heads SET key_id = '{id}'");
    for id in [key("a").id(), old.database_audit_key().id()] {
        connection.execute_unprepared(&claim(id)).await.unwrap();
        let tx = new.write(&acme).await.unwrap();
        let refused = tx.commit(Touched::Nothing, entry(60)).await.unwrap_err();
        assert!(refused.to_string().contains("rolegate audit rotate"), "{refused}");
    }
    // It is verified first.
    keep(&connection, "kept").await;
    for change in [edit(3, "caller = 'else'"), edit(4, "\"after\" = NULL")] {
        connection.execute_unprepared(&change).await.unwrap();
        assert_eq!(new.rotate_audit(&acme, &keys, false).await.unwrap(), Rotated::Broken);
        restore(&connection, "kept").await;
    }
    assert_eq!(new.rotate_audit(&acme, &keys, false).await.unwrap(), Rotated::Done);
    record(&new, &acme, entry(60)).await;
    // Those who have only the old key do not come after the new one.
    let refused = old.record_refusal(&acme, full("kim", "lee", 70), "R").await;
    assert!(matches!(refused, Err(StoreError::AuditKeyMismatch(_))), "{refused:?}");
    for (tenant, ended) in
        [(&acme, Rotated::Unneeded), (&other, Rotated::Done), (&other, Rotated::Unneeded)]
    {
        assert_eq!(new.rotate_audit(tenant, &keys, false).await.unwrap(), ended);
        assert!(problems(tenant, &keys).await.is_empty());
        // The old key alone, or the new one alone, is not enough.
        assert_eq!(problems(tenant, &ring(&[key("a")])).await, ["unknown_key"]);
        assert_eq!(problems(tenant, &ring(&[key("b"), key("a")])).await.last(), Some(&"old_key"));
    }
    // An event under the old key, which whoever has the database has, cannot come after the new one.
    new.close().await;
    let connection = connect(&database.options).await;
    let forget = "UPDATE meta SET value = 'x' WHERE key = 'audit_key_ids'";
    let known = old.database_audit_key().id();
    let wanted = SqlStore::open(&database.options).await;
    assert!(matches!(wanted, Err(OpenError::AuditKeyWanted(_))), "{wanted:?}");
    let unknown = SqlStore::open(&with(&key("b"))).await;
    assert!(matches!(unknown, Err(OpenError::AuditKeyUnknown { .. })), "{unknown:?}");
    for of in [Some(vec![key("a").id().to_owned()]), None] {
        SqlStore::open(&after(&key("b"), of, false)).await.unwrap().close().await;
    }
    let replaced = SqlStore::open(&with(&key("a"))).await;
    assert!(matches!(replaced, Err(OpenError::AuditKeyReplaced(_))), "{replaced:?}");
    connection
        .execute_unprepared(&forget.replace("'x'", &format!("'{} {known}'", key("a").id())))
        .await
        .unwrap();
    let forger = SqlStore::open(&database.options).await.unwrap();
    let tx = forger.write(&acme).await.unwrap();
    let refused = tx.commit(Touched::Nothing, entry(80)).await;
    assert!(matches!(refused, Err(StoreError::AuditKeyMismatch(_))), "{refused:?}");
    let last = head(&forger, &acme).await.number;
    connection.execute_unprepared(&edit(last, &format!("key_id = '{known}'"))).await.unwrap();
    record(&forger, &acme, entry(80)).await;
    let verified = forger.verify_audit(&acme, &keys, &[]).await.unwrap();
    assert!(verified.findings.iter().any(|f| f.problem == "key_order"), "{verified:?}");
    forger.close().await;
    connection.close().await.unwrap();
}

pub(super) async fn events_under_older_keys_are_deleted_by_whoever_has_them(database: &Database) {
    let with = async |key: &AuditKey| {
        let audit_key = AuditKeyChoice::Given(key.clone());
        SqlStore::open(&OpenOptions { audit_key, ..database.options.clone() }).await.unwrap()
    };
    let old = with(&key("a")).await;
    let (acme, _) = trails(&old).await;
    assert_eq!(old.trim_audit(Timestamp(5)).await.unwrap(), 2);
    let of = Some(vec![key("a").id().to_owned()]);
    let audit_key = AuditKeyChoice::Successor { key: key("c"), of, of_database: false };
    let new = SqlStore::open(&OpenOptions { audit_key, ..database.options.clone() }).await.unwrap();
    let keys = Keyring::new(key("c"), [key("a")]);
    assert_eq!(new.rotate_audit(&acme, &keys, false).await.unwrap(), Rotated::Done);
    // The other trail was not verified yet, so nothing is signed there.
    for (deleted, known) in [(0, &Keyring::new(key("c"), [])), (1, &keys)] {
        assert_eq!(new.trim_audit_with(known, Timestamp(15)).await.unwrap(), deleted);
        assert!(new.verify_audit(&acme, &keys, &[]).await.unwrap().is_sound());
    }
    assert_eq!(new.trim_audit(Timestamp(45)).await.unwrap(), 0);
    assert_eq!(new.trim_audit_with(&keys, Timestamp(45)).await.unwrap(), 3);
    assert!(new.verify_audit(&acme, &keys, &[]).await.unwrap().is_sound());
    old.close().await;
    new.close().await;
}

/// A database of the first schema, whose events know of no chain.
async fn old_database(options: &OpenOptions) -> DatabaseConnection {
    let connection = connect(options).await;
    migrations::Migrator::up(&connection, Some(1)).await.unwrap();
    for sql in [
        "INSERT INTO tenants VALUES ('acme', 'qpien', 1, NULL, 'active', 2, 2, 1, 1, NULL), \
         ('bare', 'qpien', 1, NULL, 'active', 7, 7, 1, 1, NULL)",
        "INSERT INTO audit (seq, tenant_id, revision, at, caller, actor, method, \"before\") VALUES \
         (1, 'acme', 1, 5, 'c', NULL, 'm', NULL), (2, 'acme', 2, 6, 'c', 'kim', 'm', '{}')",
        "INSERT INTO audit_subjects VALUES (2, 'acme', 'member', 'kim')",
    ] {
        connection.execute_unprepared(sql).await.unwrap();
    }
    if connection.get_database_backend() == sea_orm::DbBackend::Postgres {
        let next = "SELECT setval('audit_seq_seq', 100)";
        let next = Statement::from_string(sea_orm::DbBackend::Postgres, next);
        connection.query_one_raw(next).await.unwrap();
    }
    connection
}

async fn events_of_the_first_schema_are_chained(options: OpenOptions) {
    let connection = old_database(&options).await;
    let store = SqlStore::open(&options).await.unwrap();
    for (id, events) in [("acme", 2), ("bare", 0)] {
        let tenant = tenant_id(id);
        let verified = verify(&store, &tenant, &[]).await;
        assert!(verified.is_sound() && verified.events == events, "{verified:?}");
        record(&store, &tenant, full("kim", "lee", 10)).await;
        erase(&store, &tenant, "kim", 20).await;
        assert_sound(&store, &tenant).await;
    }
    connection.execute_unprepared(&edit(1, "caller = 'd'")).await.unwrap();
    let findings = verify(&store, &tenant_id("acme"), &[]).await.findings;
    assert_eq!((findings[0].event, findings[0].problem), (Some(1), "link"));
    let tx = store.read().await.unwrap();
    let all = AuditFilter::default();
    let events = tx.audit_events(&tenant_id("acme"), &all, None, 9).await.unwrap();
    assert_eq!(events.iter().map(|event| event.number).collect::<Vec<_>>(), [4, 3, 2, 1]);
    drop(tx);
    connection.close().await.unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_events_are_chained_on_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let options = super::backend::sqlite_options(&directory);
    std::fs::write(directory.path().join("rolegate.db"), "").unwrap();
    tokio::time::timeout(Duration::from_secs(60), events_of_the_first_schema_are_chained(options))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn old_events_are_chained_on_postgres() {
    let Some(cluster) = crate::postgres::shared() else { return };
    let options = super::backend::postgres_options(&cluster.url(&cluster.create_database()));
    events_of_the_first_schema_are_chained(options).await;
}
