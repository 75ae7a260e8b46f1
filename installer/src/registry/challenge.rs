//! `WWW-Authenticate: Bearer realm="…",service="…",scope="…"` \[pure\].

/// What a registry demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Where tokens are given.
    pub realm: String,
    /// For whom they are.
    pub service: Option<String>,
    /// What for.
    pub scopes: Vec<String>,
}

impl Challenge {
    /// The first Bearer challenge of a header. `None`: there is none, or it has no realm.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let rest = header.trim_start();
        let (scheme, mut rest) = rest.split_once(|c: char| c.is_ascii_whitespace())?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut found = Self { realm: String::new(), service: None, scopes: Vec::new() };
        while let Some((name, value, left)) = parameter(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => found.realm = value,
                "service" => found.service = Some(value),
                // Several in one are apart by spaces.
                "scope" => found.scopes = value.split_ascii_whitespace().map(str::to_owned).collect(),
                _ => {}
            }
            rest = left;
        }
        (!found.realm.is_empty()).then_some(found)
    }
}

/// A name, its value, and what comes after the comma.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.trim_start_matches([' ', '\t', ',']).split_once('=')?;
    let rest = rest.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, left) = rest.split_once(',').unwrap_or((rest, ""));
        return Some((name.trim(), value.trim().to_owned(), left));
    };
    let (mut value, mut characters) = (String::new(), quoted.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((name.trim(), value, quoted.get(at + 1..).unwrap_or_default())),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    // A quote that nobody closes.
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_say_is_read() {
        let harbor = r#"Bearer realm="https://h.example.com/service/token",service="harbor-registry",scope="repository:p/r:pull,push""#;
        let read = Challenge::parse(harbor).unwrap();
        assert_eq!(read.realm, "https://h.example.com/service/token");
        assert_eq!((read.service.as_deref(), read.scopes), (Some("harbor-registry"), vec!["repository:p/r:pull,push".to_owned()]));

        let odd = r#"bearer  scope="a:b:c d:e:f" , error="invalid_token", REALM="https://h/\"t\"" , service=plain"#;
        let read = Challenge::parse(odd).unwrap();
        assert_eq!((read.realm.as_str(), read.service.as_deref()), (r#"https://h/"t""#, Some("plain")));
        assert_eq!(read.scopes, ["a:b:c", "d:e:f"]);

        for none in ["", "Bearer", "Bearer ", r#"Basic realm="x""#, r#"Bearer service="x""#, r#"Bearer realm="open"#, "Bearer ,,,=,"] {
            assert_eq!(Challenge::parse(none), None, "{none}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_breaks_it(header in ".{0,200}", tail in "[ ,=\"\\\\a-z]{0,60}") {
            let _ = Challenge::parse(&header);
            let _ = Challenge::parse(&format!("Bearer realm=\"x\"{tail}"));
        }
    }
}
