//! The catalogs that a server decides by: those that ship, those of the operator, and every older
//! version that a tenant of this database may still be on.

use std::sync::Arc;

use super::{CatalogFile, ServeError};
use crate::domain::catalog::{Catalog, shipped};
use crate::domain::document::FileProblems;
use crate::store::{RecordOutcome, RecordedCatalog, SqlStore};

/// A catalog that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// It has mistakes.
    #[error("{origin} has mistakes:\n{problems}")]
    Invalid {
        /// Where it comes from.
        origin: String,
        /// Each with its line.
        problems: FileProblems,
    },
    /// This version is recorded in the database with another content.
    #[error(
        "{origin} is {reference}, but the database has recorded {reference} with another content \
         (hash {recorded}, this one has {given}). A catalog's version never changes its content: \
         give the new content a higher version"
    )]
    Changed {
        /// Where it comes from.
        origin: String,
        /// Id and version.
        reference: String,
        /// The recorded hash.
        recorded: String,
        /// The hash of what was given.
        given: String,
    },
}

/// Reads the shipped catalogs and the operator's, records them, and keeps them at hand with every
/// version that was recorded before.
pub(super) async fn load(store: &SqlStore, files: &[CatalogFile]) -> Result<(), ServeError> {
    let ours = shipped().iter().map(|source| CatalogFile {
        origin: "a catalog that ships with Rolegate".to_owned(),
        source: (*source).to_owned(),
    });
    for file in ours.chain(files.iter().cloned()) {
        let CatalogFile { origin, source } = file;
        let catalog = Catalog::parse(&source)
            .map_err(|problems| CatalogError::Invalid { origin: origin.clone(), problems })?;
        let recorded = RecordedCatalog {
            reference: catalog.reference().clone(),
            hash: catalog.hash().to_owned(),
            source,
        };
        if let RecordOutcome::Conflict { recorded_hash } = store.record_catalog(&recorded).await? {
            return Err(CatalogError::Changed {
                origin,
                reference: catalog.reference().to_string(),
                recorded: recorded_hash,
                given: recorded.hash,
            }
            .into());
        }
        store.register(Arc::new(catalog));
    }
    for recorded in store.recorded_catalogs().await? {
        // A version that this program can no longer read is the problem of the tenants on it, who
        // get an error that says so, and of nobody else.
        if let Err(error) = store.catalog(&recorded.reference).await {
            tracing::error!(catalog = %recorded.reference, %error, "a recorded catalog is unusable");
        }
    }
    for catalog in store.catalogs() {
        tracing::info!(
            catalog = %catalog.reference(),
            permissions = catalog.permissions().len(),
            hash = catalog.hash(),
            "catalog"
        );
    }
    Ok(())
}
