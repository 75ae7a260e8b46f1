//! The files that a spec and its facts come to. Pure: nothing here looks at the machine or the network.

use std::collections::BTreeMap;

/// What is to be written: path below the output folder, and content. None of it is secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// `harbor/values.yaml` …
    pub files: BTreeMap<String, String>,
}
