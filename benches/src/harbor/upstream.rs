//! `/v2/` with docker-registry behind it: requests go there as they are, as Harbor's core passes them on.

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::server::{Asked, Reply};

/// Headers that go on, of the request and of the answer.
const PASSED: [&str; 9] = [
    "accept",
    "authorization",
    "content-type",
    "range",
    "location",
    "www-authenticate",
    "docker-content-digest",
    "docker-distribution-api-version",
    "content-range",
];

pub(super) async fn pass(port: u16, asked: &Asked) -> Result<Reply> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.context("docker-registry is gone")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let query = if asked.raw_query.is_empty() { String::new() } else { format!("?{}", asked.raw_query) };
    let mut request = Request::builder().method(asked.method.as_str()).uri(format!("{}{query}", asked.path));
    request = request.header("host", format!("127.0.0.1:{port}"));
    for (name, value) in asked.headers.iter().filter(|(name, _)| PASSED.contains(&name.as_str())) {
        request = request.header(name, value);
    }
    let answer = sender.send_request(request.body(Full::new(Bytes::from(asked.body.clone())))?).await?;
    let (parts, body) = answer.into_parts();
    let mut reply = Reply::bytes(parts.status.as_u16(), body.collect().await?.to_bytes().to_vec());
    for (name, value) in &parts.headers {
        if PASSED.contains(&name.as_str()) {
            reply = reply.header(name.as_str(), value.to_str()?);
        }
    }
    // The length of what a HEAD did not ask for.
    if asked.method == "HEAD"
        && let Some(length) = parts.headers.get("content-length")
    {
        reply = reply.header("content-length", length.to_str()?);
    }
    Ok(reply)
}
