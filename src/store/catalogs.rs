//! Catalog versions: recorded in the database, so that no two replicas hold two truths, and kept
//! parsed in memory.

use std::sync::{Arc, PoisonError};

use sea_orm::sea_query::OnConflict;
use sea_orm::{EntityTrait, IntoActiveModel, QueryOrder};

use super::entity::catalog_version;
use super::read::ReadTx;
use super::rows::corrupt;
use super::{RecordedCatalog, SqlStore, StoreError};
use crate::domain::Timestamp;
use crate::domain::catalog::{Catalog, CatalogRef};

/// What came of recording a catalog version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordOutcome {
    /// It is recorded now.
    New,
    /// It was recorded already, with the same content.
    Same,
    /// The same version is recorded with other content: this one must not be used.
    Conflict {
        /// The hash of the content that is recorded.
        recorded_hash: String,
    },
}

impl SqlStore {
    /// Records a catalog version, unless that version is recorded already.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn record_catalog(
        &self,
        catalog: &RecordedCatalog,
    ) -> Result<RecordOutcome, StoreError> {
        use catalog_version::Column;
        let RecordedCatalog { reference, hash, source } = catalog;
        let row = catalog_version::Model {
            catalog_id: reference.id.clone(),
            version: i64::from(reference.version),
            hash: hash.clone(),
            source: source.clone(),
            recorded_at: Timestamp::now().0,
        };
        let inserted = catalog_version::Entity::insert(row.into_active_model())
            .on_conflict(
                OnConflict::columns([Column::CatalogId, Column::Version]).do_nothing().to_owned(),
            )
            .exec_without_returning(&self.inner.writers)
            .await?;
        if inserted > 0 {
            return Ok(RecordOutcome::New);
        }
        let recorded = self.read().await?.recorded_catalog(reference).await?;
        Ok(match recorded {
            Some(recorded) if recorded.hash != *hash => {
                RecordOutcome::Conflict { recorded_hash: recorded.hash }
            }
            _ => RecordOutcome::Same,
        })
    }

    /// Every catalog version that was ever recorded, by id and version.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn recorded_catalogs(&self) -> Result<Vec<RecordedCatalog>, StoreError> {
        let rows = catalog_version::Entity::find()
            .order_by_asc(catalog_version::COLUMN.catalog_id)
            .order_by_asc(catalog_version::COLUMN.version)
            .all(&self.inner.readers)
            .await?;
        rows.into_iter().map(RecordedCatalog::try_from).collect()
    }

    /// Keeps a parsed catalog at hand.
    pub fn register(&self, catalog: Arc<Catalog>) {
        let mut catalogs = self.inner.catalogs.write().unwrap_or_else(PoisonError::into_inner);
        catalogs.insert(catalog.reference().clone(), catalog);
    }

    /// The catalog at this version: at hand, or else read from the database.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it was never recorded, or cannot be parsed any more.
    pub async fn catalog(&self, reference: &CatalogRef) -> Result<Arc<Catalog>, StoreError> {
        match self.catalog_at_hand(reference) {
            Some(catalog) => Ok(catalog),
            None => self.catalog_within(&self.read().await?, reference).await,
        }
    }

    /// The same, within a transaction that is open anyway.
    pub(super) async fn catalog_within(
        &self,
        tx: &ReadTx,
        reference: &CatalogRef,
    ) -> Result<Arc<Catalog>, StoreError> {
        if let Some(catalog) = self.catalog_at_hand(reference) {
            return Ok(catalog);
        }
        let recorded = tx.recorded_catalog(reference).await?;
        let recorded =
            recorded.ok_or_else(|| corrupt("catalog_versions.version", &reference.to_string()))?;
        let catalog = Arc::new(parse(&recorded)?);
        self.register(Arc::clone(&catalog));
        Ok(catalog)
    }

    fn catalog_at_hand(&self, reference: &CatalogRef) -> Option<Arc<Catalog>> {
        let catalogs = self.inner.catalogs.read().unwrap_or_else(PoisonError::into_inner);
        catalogs.get(reference).cloned()
    }

    /// The newest version at hand of a catalog.
    #[must_use]
    pub fn newest_catalog(&self, id: &str) -> Option<Arc<Catalog>> {
        let catalogs = self.inner.catalogs.read().unwrap_or_else(PoisonError::into_inner);
        catalogs.values().rfind(|catalog| catalog.reference().id == id).cloned()
    }

    /// All catalogs at hand, by id and version.
    #[must_use]
    pub fn catalogs(&self) -> Vec<Arc<Catalog>> {
        let catalogs = self.inner.catalogs.read().unwrap_or_else(PoisonError::into_inner);
        catalogs.values().cloned().collect()
    }
}

impl ReadTx {
    async fn recorded_catalog(
        &self,
        reference: &CatalogRef,
    ) -> Result<Option<RecordedCatalog>, StoreError> {
        let key = (reference.id.clone(), i64::from(reference.version));
        let row = catalog_version::Entity::find_by_id(key).one(&self.tx).await?;
        row.map(RecordedCatalog::try_from).transpose()
    }
}

impl TryFrom<catalog_version::Model> for RecordedCatalog {
    type Error = StoreError;

    fn try_from(row: catalog_version::Model) -> Result<Self, StoreError> {
        let version = u32::try_from(row.version)
            .map_err(|_| corrupt("catalog_versions.version", &row.catalog_id))?;
        Ok(RecordedCatalog {
            reference: CatalogRef { id: row.catalog_id, version },
            hash: row.hash,
            source: row.source,
        })
    }
}

fn parse(recorded: &RecordedCatalog) -> Result<Catalog, StoreError> {
    Catalog::parse(&recorded.source)
        .map_err(|_| corrupt("catalog_versions.source", &recorded.reference.to_string()))
}
