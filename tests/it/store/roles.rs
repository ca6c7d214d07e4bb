use rolegate::domain::Timestamp;
use rolegate::domain::grant::Grant;
use rolegate::domain::name::{NameKey, RoleName};
use rolegate::domain::role::CustomRole;
use rolegate::store::{SqlStore, StoreError, Touched};

use super::backend::{commit, entry, make_tenant, role, role_id, role_ids};

pub(super) async fn are_read_back_changed_and_deleted(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    let made = CustomRole {
        name: RoleName::parse("Night Shift 야간").unwrap(),
        description: "two\nlines, \"quoted\"".into(),
        grants: vec![
            Grant { permission: "chat.view".into(), scope: None },
            Grant { permission: "conversation.view".into(), scope: Some("team".into()) },
        ],
        ..role("r1")
    };
    let tx = store.write(&tenant).await.unwrap();
    tx.put_role(&made).await.unwrap();
    // A transaction sees what it wrote; others do not yet.
    assert_eq!(tx.count_roles(&tenant).await.unwrap(), 1);
    assert_eq!(store.read().await.unwrap().role(&tenant, &made.id).await.unwrap(), None);
    assert_eq!(commit(tx).await, 2);

    let made = CustomRole { revision: 2, ..made };
    let tx = store.read().await.unwrap();
    assert_eq!(tx.role(&tenant, &made.id).await.unwrap(), Some(made.clone()));
    let by_name = tx.role_named(&tenant, &NameKey::of(" night  shift 야간 ")).await.unwrap();
    assert_eq!(by_name.as_ref(), Some(&made), "runs of blanks are one");
    let by_name = tx.role_named(&tenant, &NameKey::of(" NIGHT SHIFT 야간 ")).await.unwrap();
    assert_eq!(by_name.as_ref(), Some(&made));
    drop(tx);

    let changed = CustomRole {
        name: RoleName::parse("Day").unwrap(),
        description: String::new(),
        grants: vec![],
        created_at: Timestamp(1),
        updated_at: Timestamp(999),
        ..made.clone()
    };
    let tx = store.write(&tenant).await.unwrap();
    tx.put_role(&changed).await.unwrap();
    assert_eq!(commit(tx).await, 3);
    let tx = store.read().await.unwrap();
    assert_eq!(
        tx.role(&tenant, &made.id).await.unwrap(),
        Some(CustomRole { revision: 3, created_at: made.created_at, ..changed })
    );
    assert_eq!(tx.role_named(&tenant, &made.name.key()).await.unwrap(), None);
    drop(tx);

    let tx = store.write(&tenant).await.unwrap();
    assert!(tx.delete_role(&made.id).await.unwrap());
    assert!(!tx.delete_role(&made.id).await.unwrap());
    commit(tx).await;
    let tx = store.read().await.unwrap();
    assert_eq!(tx.role(&tenant, &made.id).await.unwrap(), None);
    assert_eq!(tx.count_roles(&tenant).await.unwrap(), 0);
}

pub(super) async fn are_listed_in_order(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    let tx = store.write(&tenant).await.unwrap();
    for id in ["r3", "r1", "r5", "r2", "r4"] {
        tx.put_role(&role(id)).await.unwrap();
    }
    commit(tx).await;
    let tx = store.read().await.unwrap();
    let mut seen = Vec::new();
    while let page = tx.roles(&tenant, seen.last(), 2).await.unwrap()
        && !page.is_empty()
    {
        seen.extend(page.into_iter().map(|role| role.id));
    }
    assert_eq!(seen, role_ids(&["r1", "r2", "r3", "r4", "r5"]));

    let wanted = role_ids(&["r5", "nobody", "r1"]);
    let mut found: Vec<_> =
        tx.roles_by_ids(&tenant, &wanted).await.unwrap().into_iter().map(|role| role.id).collect();
    found.sort();
    assert_eq!(found, role_ids(&["r1", "r5"]));
    assert_eq!(tx.roles_by_ids(&tenant, &[]).await.unwrap(), []);
}

pub(super) async fn a_name_is_taken_once(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    let named =
        |id: &str, name: &str| CustomRole { name: RoleName::parse(name).unwrap(), ..role(id) };
    let tx = store.write(&tenant).await.unwrap();
    tx.put_role(&named("r1", "Straße")).await.unwrap();
    tx.put_role(&named("r2", "Other")).await.unwrap();
    commit(tx).await;
    for second in [named("r3", "STRASSE"), named("r2", " strasse ")] {
        let tx = store.write(&tenant).await.unwrap();
        let refused = tx.put_role(&second).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    }
    // Keeping one's own name, differently written, is no conflict.
    let tx = store.write(&tenant).await.unwrap();
    tx.put_role(&named("r1", "STRASSE")).await.unwrap();
    commit(tx).await;
}

pub(super) async fn a_name_is_taken_once_under_a_race(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    let start = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    let racers = ["r1", "r2"].map(|id| {
        let (store, tenant, start) = (store.clone(), tenant.clone(), start.clone());
        tokio::spawn(async move {
            start.wait().await;
            let tx = store.write(&tenant).await?;
            tx.put_role(&CustomRole { id: role_id(id), ..role("Same") }).await?;
            tx.commit(Touched::Nothing, entry(1)).await
        })
    });
    let [one, two] = racers;
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    let winners = [&one, &two].iter().filter(|outcome| outcome.is_ok()).count();
    let conflicts =
        [&one, &two].iter().filter(|outcome| matches!(outcome, Err(StoreError::Conflict))).count();
    assert_eq!((winners, conflicts), (1, 1), "{one:?} {two:?}");
    let tx = store.read().await.unwrap();
    assert_eq!(tx.count_roles(&tenant).await.unwrap(), 1);
    assert_eq!(tx.tenant(&tenant).await.unwrap().unwrap().revision, 2);
}

pub(super) async fn ids_and_names_belong_to_one_tenant(store: &SqlStore) {
    let (one, two) = (make_tenant(store, "one").await, make_tenant(store, "two").await);
    for tenant in [&one, &two] {
        let tx = store.write(tenant).await.unwrap();
        tx.put_role(&CustomRole { description: tenant.to_string(), ..role("r") }).await.unwrap();
        commit(tx).await;
    }
    let tx = store.write(&one).await.unwrap();
    assert!(tx.delete_role(&role_id("r")).await.unwrap());
    commit(tx).await;
    let tx = store.read().await.unwrap();
    assert_eq!(tx.roles(&one, None, 9).await.unwrap(), []);
    let left = tx.role_named(&two, &NameKey::of("R")).await.unwrap().unwrap();
    assert_eq!(left.description, "two");
}
