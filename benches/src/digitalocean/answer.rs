//! What is answered, in DigitalOcean's words.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// An answer, before it is bytes.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    /// `Null` for an empty body.
    pub(super) body: Value,
}

impl Answer {
    pub(super) fn ok(body: Value) -> Self {
        Self { status: 200, headers: Vec::new(), body }
    }

    pub(super) fn created(body: Value) -> Self {
        Self { status: 201, headers: Vec::new(), body }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Value::Null }
    }

    /// `{id, message, request_id}`.
    pub(super) fn error(status: u16, message: &str) -> Self {
        let id = match status {
            400 => "bad_request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "not_found",
            422 => "unprocessable_entity",
            429 => "too_many_requests",
            503 => "service_unavailable",
            _ => "server_error",
        };
        let body = json!({ "id": id, "message": message, "request_id": uuid() });
        Self { status, headers: Vec::new(), body }
    }

    pub(super) fn not_found() -> Self {
        Self::error(404, "The resource you requested could not be found.")
    }

    pub(super) fn unprocessable(message: &str) -> Self {
        Self::error(422, message)
    }

    pub(super) fn unauthorized() -> Self {
        Self::error(401, "Unable to authenticate you")
    }

    pub(super) fn lacks(scope: &str) -> Self {
        Self::error(403, &format!("You are missing the required permission {scope}."))
    }

    pub(super) fn too_many(retry_after: Option<u64>) -> Self {
        let mut answer = Self::error(429, "API rate limit exceeded.");
        answer.headers.extend(retry_after.map(|seconds| ("retry-after", seconds.to_string())));
        answer
    }
}

/// One page of a list, with `links` and `meta` as DigitalOcean has them.
pub(super) fn page(path: &str, query: &[(String, String)], field: &str, items: &[Value]) -> Answer {
    let number = |name: &str| query.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.parse::<usize>().ok());
    let (page, size) = (number("page").unwrap_or(1), number("per_page").unwrap_or(20));
    if page == 0 || !(1..=200).contains(&size) {
        return Answer::unprocessable("page and per_page must be positive, and per_page at most 200");
    }
    let shown: Vec<&Value> = items.iter().skip((page - 1) * size).take(size).collect();
    let link = |page: usize| {
        let others = query.iter().filter(|(key, _)| key != "page");
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(others).append_pair("page", &page.to_string()).finish();
        // Always of the real one, also behind a proxy: a client must not go where an answer points.
        format!("https://api.digitalocean.com{path}?{query}")
    };
    let last = items.len().div_ceil(size).max(1);
    let mut pages = serde_json::Map::new();
    if page < last {
        pages.insert("next".to_owned(), link(page + 1).into());
        pages.insert("last".to_owned(), link(last).into());
    }
    if page > 1 {
        pages.insert("first".to_owned(), link(1).into());
        pages.insert("prev".to_owned(), link(page - 1).into());
    }
    let links = if pages.is_empty() { json!({}) } else { json!({ "pages": pages }) };
    Answer::ok(json!({ field: shown, "links": links, "meta": { "total": items.len() } }))
}

/// Seconds since 1970.
pub(super) fn epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Random, version 4.
pub(super) fn uuid() -> String {
    let bits = fastrand::u128(..);
    let bits = bits & !(0xf << 76) | (0x4 << 76);
    let bits = bits & !(0x3 << 62) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// A password or the secret half of a key.
pub(super) fn secret(prefix: &str, length: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(length).fold(prefix.to_owned(), |mut word, letter| {
        word.push(letter);
        word
    })
}
