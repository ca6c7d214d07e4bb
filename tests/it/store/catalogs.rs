use rolegate::domain::catalog::CatalogRef;
use rolegate::store::{RecordOutcome, RecordedCatalog, SqlStore, StoreError};

fn catalog(id: &str, version: u32, hash: &str) -> RecordedCatalog {
    RecordedCatalog {
        reference: CatalogRef { id: id.into(), version },
        hash: hash.into(),
        source: format!("# {hash}"),
    }
}

pub(super) async fn a_version_is_recorded_once(store: &SqlStore) {
    let first = catalog("qpien", 1, "aa");
    assert_eq!(store.record_catalog(&first).await.unwrap(), RecordOutcome::New);
    // Comments do not count: what is recorded stays as it is.
    let commented = RecordedCatalog { source: "# changed".into(), ..first.clone() };
    assert_eq!(store.record_catalog(&commented).await.unwrap(), RecordOutcome::Same);
    assert_eq!(
        store.record_catalog(&catalog("qpien", 1, "bb")).await.unwrap(),
        RecordOutcome::Conflict { recorded_hash: "aa".into() }
    );
    assert_eq!(store.recorded_catalogs().await.unwrap(), [first]);
}

pub(super) async fn are_listed_by_id_and_version(store: &SqlStore) {
    let all = [
        catalog("oqupie", 2, "a"),
        catalog("oqupie", 10, "b"),
        catalog("qpien", 1, "c"),
        catalog("qpien", u32::MAX, "d"),
    ];
    for catalog in all.iter().rev() {
        assert_eq!(store.record_catalog(catalog).await.unwrap(), RecordOutcome::New);
    }
    assert_eq!(store.recorded_catalogs().await.unwrap(), all);
}

pub(super) async fn an_unknown_version_is_an_error(store: &SqlStore) {
    let unknown = CatalogRef { id: "qpien".into(), version: 9 };
    let found = store.catalog(&unknown).await;
    assert!(
        matches!(&found, Err(StoreError::Corrupt(what)) if what.contains("qpien@9")),
        "{found:?}"
    );
    assert!(store.newest_catalog("qpien").is_none());
}
