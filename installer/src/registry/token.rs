//! What a token grants. A registry answers a login that is right with a token, also where the login may do nothing: only the token tells.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// Of one repository.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Grant {
    /// `repository`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `project/image`.
    pub name: String,
    /// `pull`, `push` …; `null` or nothing where there are none.
    #[serde(default)]
    pub actions: Option<Vec<String>>,
}

/// The grants in a token (a JWT). `None`: it is opaque, and tells nothing. Nobody verifies its signature here: the registry does.
#[must_use]
pub fn granted(token: &SecretString) -> Option<Vec<Grant>> {
    #[derive(Deserialize)]
    struct Claims {
        #[serde(default)]
        access: Option<Vec<Grant>>,
    }
    let claims = token.expose_secret().split('.').nth(1)?;
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    // Claims that cannot be read grant nothing that we know of.
    Some(serde_json::from_slice::<Claims>(&claims).ok().and_then(|claims| claims.access).unwrap_or_default())
}

/// Whether a token lets one pull from this repository; an opaque one may.
#[must_use]
pub fn may_pull(token: &SecretString, repository: &str) -> bool {
    let is_it = |grant: &Grant| grant.name == repository && grant.actions.iter().flatten().any(|action| action == "pull" || action == "*");
    granted(token).is_none_or(|grants| grants.iter().any(is_it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_what_it_grants() {
        let token = |claims: &str| SecretString::from(format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims)));
        let pull = token(r#"{"access":[{"type":"repository","name":"p/r","actions":["pull"]}]}"#);
        assert!(may_pull(&pull, "p/r") && !may_pull(&pull, "p/other"));
        // What Harbor gives to a login that is right and may do nothing.
        for nothing in [
            r#"{"access":[{"type":"repository","name":"p/r","actions":[]}]}"#,
            r#"{"access":[{"type":"repository","name":"p/r","actions":null}]}"#,
            r#"{"access":null}"#,
            "{}",
            "[]",
        ] {
            assert!(!may_pull(&token(nothing), "p/r"), "{nothing}");
        }
        assert!(may_pull(&SecretString::from("opaque"), "p/r"));
    }
}
