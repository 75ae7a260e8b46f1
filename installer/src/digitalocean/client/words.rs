//! Reading an answer that may be anything, and telling it on one bounded line that holds no secret.

use std::error::Error as _;

use reqwest::{Response, StatusCode};
use serde::Deserialize;

/// Of what somebody else wrote.
const LONGEST: usize = 400;

/// A no, in DigitalOcean's words if it has any.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) id: String,
    pub(super) message: String,
    pub(super) request_id: Option<String>,
}

/// Reads `{id, message, request_id}`; a body that is something else is not repeated: it may be a page of HTML, or hold what was sent.
pub(super) fn refusal(status: StatusCode, body: &[u8], header_id: Option<String>, token: &str) -> Refusal {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        id: Option<String>,
        message: Option<String>,
        request_id: Option<String>,
    }
    let body: Body = serde_json::from_slice(body).unwrap_or_default();
    let tidy = |text: Option<String>| text.map(|text| one_line(&text, token)).filter(|text| !text.is_empty());
    Refusal {
        id: tidy(body.id).unwrap_or_else(|| "error".to_owned()),
        message: tidy(body.message).unwrap_or_else(|| fallback(status)),
        request_id: tidy(body.request_id).or_else(|| tidy(header_id)),
    }
}

fn fallback(status: StatusCode) -> String {
    if status.is_redirection() {
        return "the answer points elsewhere, and the token goes nowhere else; is the address of the API right?".to_owned();
    }
    format!("{}, with no words that can be read", status.canonical_reason().unwrap_or("an error"))
}

/// Without what would break a line or a terminal, without the token, and not too long.
fn one_line(text: &str, token: &str) -> String {
    let text = if token.is_empty() { text.to_owned() } else { text.replace(token, "***") };
    let words = text.split(|letter: char| letter.is_whitespace() || letter.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ").replace(is_invisible, "");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// What turns the direction of text around or hides in it.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A header that is for people.
pub(super) fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Why there was no answer, without the address: its causes, from the outermost to the innermost.
pub(super) fn of_error(error: reqwest::Error) -> String {
    if error.is_timeout() && !error.is_connect() {
        return "no answer in time".to_owned();
    }
    let error = error.without_url();
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    one_line(&text, "")
}

/// What is wrong with an answer, without repeating any of it: serde quotes values, and a value may be a password.
pub(super) fn unreadable(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let text = error.to_string();
    let place = if error.line() > 0 { format!(" at line {} column {}", error.line(), error.column()) } else { String::new() };
    match error.classify() {
        Category::Eof => format!("it ends too early{place}"),
        Category::Syntax | Category::Io => format!("it is no JSON{place}"),
        // "missing field `x`" speaks of our own names alone.
        Category::Data if text.starts_with("missing field") => one_line(&text, ""),
        Category::Data => match text.rsplit_once(", expected ") {
            Some((_, expected)) => format!("something else than expected: {}", one_line(expected, "")),
            None => format!("something else than expected{place}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8]) -> Refusal {
        refusal(StatusCode::BAD_GATEWAY, body, Some("from-header".to_owned()), "dop_v1_token")
    }

    #[test]
    fn digitaloceans_own_words_come_through() {
        let told = read(br#"{"id":"forbidden","message":"You are missing the required permission x.","request_id":"abc"}"#);
        let expected = ("forbidden", "You are missing the required permission x.", Some("abc"));
        assert_eq!((told.id.as_str(), told.message.as_str(), told.request_id.as_deref()), expected);
    }

    #[test]
    fn other_bodies_are_not_repeated() {
        for body in [&b""[..], b"<html>Bad gateway, token was dop_v1_token</html>", b"[1,2]", b"\"text\"", b"\xff\xfe", b"{\"message\":7}"]
        {
            let told = read(body);
            assert_eq!(told.message, "Bad Gateway, with no words that can be read");
            assert_eq!(told.request_id.as_deref(), Some("from-header"));
        }
    }

    #[test]
    fn a_message_is_one_bounded_line_without_the_token() {
        let long = format!("{{\"message\":\"a\\n\\u001b[31mb\\u202e dop_v1_token {}\"}}", "x".repeat(10_000));
        let told = read(long.as_bytes()).message;
        assert!(told.starts_with("a [31mb *** xxx"), "{told}");
        assert!(told.len() < 500 && !told.contains(char::is_control), "{told}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_not_quoted() {
        #[derive(Debug, Deserialize)]
        struct Wanted {
            #[expect(dead_code, reason = "only its type counts")]
            port: u16,
        }
        let why = |body: &str| unreadable(&serde_json::from_str::<Wanted>(body).unwrap_err());
        for body in [r#"{"port":"s3cret"}"#, r#"{"port":"a, expected s3cret, expected u16"}"#, r#"{"port": s3cret}"#, r#"{"port":"s3cret"#]
        {
            assert!(!why(body).contains("s3cret"), "{}", why(body));
        }
        assert!(why(r#"{"port":"s3cret"}"#).contains("u16"));
        assert_eq!(why("{}"), "missing field `port` at line 1 column 2");
    }
}
