//! AWS Signature Version 4 in a URL, checked by computing it again from what arrived.

use aws_lc_rs::{digest, hmac};
use hyper::http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// The query of a URL, decoded, in its order.
pub(super) fn query(head: &Parts) -> Vec<(String, String)> {
    let pairs = head.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| (decoded(name), decoded(value))).collect()
}

pub(super) fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// As in a list that was asked for with `encoding-type=url`.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// The access key that the request claims to be of.
pub(super) fn access_key(query: &[(String, String)]) -> Option<&str> {
    value(query, "X-Amz-Credential")?.split('/').next()
}

/// True when whoever made the URL has this secret.
pub(super) fn holds(head: &Parts, query: &[(String, String)], secret: &str) -> bool {
    expected(head, query, secret).is_some_and(|expected| value(query, "X-Amz-Signature") == Some(&*expected))
}

fn expected(head: &Parts, query: &[(String, String)], secret: &str) -> Option<String> {
    let (_, scope) = value(query, "X-Amz-Credential")?.split_once('/')?;
    let signed_headers = value(query, "X-Amz-SignedHeaders")?;
    let encode = |text| utf8_percent_encode(text, UNRESERVED).to_string();
    let mut pairs: Vec<_> = query.iter().filter(|(name, _)| name != "X-Amz-Signature").map(|(n, v)| (encode(n), encode(v))).collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let header = |name| Some(format!("{name}:{}\n", head.headers.get(name)?.to_str().ok()?.trim()));
    let headers = signed_headers.split(';').map(header).collect::<Option<String>>()?;
    let path = encoded(&decoded(head.uri.path()));
    let request = format!("{}\n{path}\n{}\n{headers}\n{signed_headers}\nUNSIGNED-PAYLOAD", head.method, pairs.join("&"));

    let hash = hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
    let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hash}", value(query, "X-Amz-Date")?);
    let sign = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec();
    let key = scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, part| sign(&key, part));
    Some(hex(&sign(&key, &to_sign)))
}

pub(super) fn value<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
