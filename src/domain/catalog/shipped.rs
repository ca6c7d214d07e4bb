//! The catalogs inside the binary.

/// The sources of the catalogs that ship with the program, each to be read by
/// [`super::Catalog::parse`].
#[must_use]
pub fn shipped() -> &'static [&'static str] {
    &[include_str!("../../../catalogs/oqupie.toml"), include_str!("../../../catalogs/qpien.toml")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::Catalog;

    /// A changed hash means that the content changed, and replicas refuse to start when the same
    /// version has another content: raise `version` in the file, then pin the new hash here.
    #[test]
    fn the_content_of_a_shipped_version_never_changes() {
        let pinned = [
            ("oqupie@1", "72b0cd123fac535272bd62f7c92928c3dc3a9c2dd0eec46bc97caa44b8109098"),
            ("qpien@1", "420cef75e44f73230db01ebe9c2701d221167056d3d61089539b31494211369f"),
        ];
        for (source, (reference, hash)) in shipped().iter().zip(pinned) {
            let catalog = match Catalog::parse(source) {
                Ok(catalog) => catalog,
                Err(problems) => panic!("{reference}:\n{problems}"),
            };
            assert_eq!(catalog.reference().to_string(), reference);
            assert_eq!(
                catalog.hash(),
                hash,
                "the content of {reference} changed: give it a new version and pin its hash"
            );
        }
    }
}
