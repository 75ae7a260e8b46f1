//! Where a list goes on. Of the address in `links.pages.next` only the query is used: path and host stay ours, as the token is only for them.

use std::collections::BTreeSet;

use reqwest::Url;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::words;

/// Of 200 each; no account has so much of anything.
const MOST: usize = 100;

/// The pages that were read, as queries, and the one to read.
#[derive(Debug)]
pub(super) struct Trail {
    here: String,
    read: BTreeSet<String>,
}

impl From<String> for Trail {
    fn from(query: String) -> Self {
        Self { here: query, read: BTreeSet::new() }
    }
}

impl Trail {
    pub(super) fn here(&self) -> &str {
        &self.here
    }

    /// Goes to the next page, if this answer says that there is one.
    pub(super) fn go_on(&mut self, path: &str, answer: &Map<String, Value>) -> Result<bool, String> {
        let next = answer.get("links").and_then(|links| links.pointer("/pages/next")).filter(|next| !next.is_null());
        let Some(next) = next else { return Ok(false) };
        let next = next.as_str().filter(|next| !next.is_empty()).and_then(|next| Url::parse(next).ok());
        let next = next.ok_or("its next page has no address")?;
        if !next.path().ends_with(path) {
            return Err("its next page is of another list".to_owned());
        }
        self.read.insert(std::mem::take(&mut self.here));
        next.query().unwrap_or_default().clone_into(&mut self.here);
        if self.read.contains(&self.here) {
            return Err("its pages go in a circle".to_owned());
        }
        if self.read.len() >= MOST {
            return Err(format!("it has more than {MOST} pages"));
        }
        Ok(true)
    }
}

/// How the items of an answer are read.
pub(super) type Items<T> = fn(&mut Map<String, Value>, &str) -> Result<Vec<T>, String>;

/// The items of a page; `null` is none. A field that is missing is an error: "nothing is there" must never be read out of an answer that
/// speaks of something else.
pub(super) fn items_of_page<T: DeserializeOwned>(answer: &mut Map<String, Value>, field: &str) -> Result<Vec<T>, String> {
    match answer.remove(field) {
        Some(Value::Null) => Ok(Vec::new()),
        Some(items) => serde_json::from_value(items).map_err(|error| format!("{field}: {}", words::unreadable(&error))),
        None => Err(format!("it has no {field}")),
    }
}

/// The items of a list that has no pages: these may also be nothing at all, `{}`.
pub(super) fn items<T: DeserializeOwned>(answer: &mut Map<String, Value>, field: &str) -> Result<Vec<T>, String> {
    if answer.is_empty() { Ok(Vec::new()) } else { items_of_page(answer, field) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn next(address: &str) -> Map<String, Value> {
        object(&json!({ "links": { "pages": { "next": address } } }))
    }

    #[test]
    fn only_the_query_of_the_next_page_is_used() {
        let mut trail = Trail::from("per_page=200".to_owned());
        let answer = next("https://evil.example/v2/spaces/keys?page=2&per_page=200");
        assert_eq!(trail.go_on("/v2/spaces/keys", &answer), Ok(true));
        assert_eq!(trail.here(), "page=2&per_page=200");
        assert!(trail.go_on("/v2/spaces/keys", &next("https://api.digitalocean.com/v2/account?page=3")).is_err());
        assert!(trail.go_on("/v2/spaces/keys", &next("not an address")).is_err());
    }

    #[test]
    fn a_list_ends_where_nothing_follows() {
        for answer in
            [json!({}), json!({ "links": {} }), json!({ "links": { "pages": {} } }), json!({ "links": { "pages": { "next": null } } })]
        {
            assert_eq!(Trail::from(String::new()).go_on("/v2/a", &object(&answer)), Ok(false), "{answer}");
        }
    }

    #[test]
    fn circles_and_endless_lists_are_errors() {
        let mut trail = Trail::from("page=1".to_owned());
        assert_eq!(trail.go_on("/v2/a", &next("https://x/v2/a?page=2")), Ok(true));
        assert!(trail.go_on("/v2/a", &next("https://x/v2/a?page=1")).unwrap_err().contains("circle"));
        let mut trail = Trail::from(String::new());
        let end = (0..1_000).find(|page| trail.go_on("/v2/a", &next(&format!("https://x/v2/a?page={page}"))).is_err());
        assert_eq!(end, Some(MOST - 1));
    }

    #[test]
    fn nothing_is_read_out_of_something_else() {
        let read = |answer: Value| items::<u8>(&mut object(&answer), "rules");
        assert_eq!(read(json!({ "rules": [1, 2] })), Ok(vec![1, 2]));
        assert_eq!(read(json!({ "rules": null, "links": {} })), Ok(vec![]));
        assert_eq!(read(json!({})), Ok(vec![]));
        assert!(items_of_page::<u8>(&mut Map::new(), "rules").is_err());
        assert!(read(json!({ "message": "hello" })).is_err());
        assert!(read(json!({ "rules": "s3cret" })).is_err_and(|why| !why.contains("s3cret")));
    }
}
