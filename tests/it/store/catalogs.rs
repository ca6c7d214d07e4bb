use std::sync::Arc;

use rolegate::domain::catalog::{Catalog, CatalogRef};
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

/// A tenant can be on a version that this program's operator has long replaced.
pub(super) async fn are_parsed_once_and_kept_at_hand(store: &SqlStore) {
    let newer = Arc::new(super::backend::qpien());
    let mut source = newer.source().to_owned();
    let place = source.find("version = 1").unwrap();
    source.replace_range(place.."version = 1".len() + place, "version = 3");
    let recorded = RecordedCatalog {
        reference: CatalogRef { id: "qpien".into(), version: 3 },
        hash: Catalog::parse(&source).unwrap().hash().to_owned(),
        source,
    };
    assert_eq!(store.record_catalog(&recorded).await.unwrap(), RecordOutcome::New);
    store.register(Arc::clone(&newer));
    assert!(Arc::ptr_eq(&store.newest_catalog("qpien").unwrap(), &newer));

    let loaded = store.catalog(&recorded.reference).await.unwrap();
    assert_eq!((loaded.reference(), loaded.hash()), (&recorded.reference, &*recorded.hash));
    assert!(Arc::ptr_eq(&store.catalog(&recorded.reference).await.unwrap(), &loaded));
    assert!(Arc::ptr_eq(&store.catalog(newer.reference()).await.unwrap(), &newer));
    assert!(Arc::ptr_eq(&store.newest_catalog("qpien").unwrap(), &loaded));
    assert!(store.newest_catalog("oqupie").is_none());
    let at_hand: Vec<_> =
        store.catalogs().iter().map(|catalog| catalog.reference().to_string()).collect();
    assert_eq!(at_hand, ["qpien@1", "qpien@3"]);

    let garbled = catalog("qpien", 4, "x");
    store.record_catalog(&garbled).await.unwrap();
    let refused = store.catalog(&garbled.reference).await;
    assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
}
