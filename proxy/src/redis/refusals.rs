//! What a client hears when it cannot be served: one error reply. In `relay` its connection is closed then, in the modes that share it stays.

use crate::error::Error;

/// `max_clients` is reached. Redis' own words, which client libraries know.
pub const MAX_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";

/// The error as a reply. The server's own where it refused what the client asked for; else it says nothing about
/// the upstream that [`Error::for_client`] does not.
#[must_use]
pub fn refusal(error: &Error) -> Vec<u8> {
    if let Some(reply) = &error.reply {
        return reply.to_vec();
    }
    format!("-ERR redis-tls-proxy: {}\r\n", error.for_client()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_refusal_is_one_reply_without_details() {
        let error = Error::upstream(Kind::Tcp, "10.0.0.7:25061: connection refused\r\n+OK");
        assert_eq!(refusal(&error), b"-ERR redis-tls-proxy: the server cannot be reached\r\n");
        let error = Error::ours(Kind::Draining, "SIGTERM");
        assert_eq!(refusal(&error), b"-ERR redis-tls-proxy: the proxy is shutting down\r\n");
        let (frames, end) = super::super::frame::fuzz::replies([refusal(&error).as_slice(), MAX_CLIENTS]);
        assert_eq!((frames.len(), end), (2, Ok(true)));
    }
}
