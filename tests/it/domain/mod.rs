//! The catalogs that ship, asked as a caller would, and the catalog format.

mod diff;
mod golden;
mod oqupie;
mod qpien;
mod support;

mod validator;

pub(crate) use support::grants;
