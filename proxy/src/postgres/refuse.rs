//! The last words to a client that is not served, in PostgreSQL's own form, so that its driver shows them instead of "connection reset".

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::message::fatal;
use crate::error::{Error, Kind, Side};
use crate::stream::{LINGER, linger};

/// What a client is told about `error`: only what [`Error::for_client`] allows.
#[must_use]
pub fn for_error(error: &Error) -> Vec<u8> {
    match (error.side, error.kind) {
        (Side::Ours, Kind::Limit) => fatal("53300", "sorry, too many clients already"),
        (Side::Ours, Kind::Draining) => fatal("57P01", "terminating connection due to administrator command"),
        (Side::Client, Kind::Timeout) => fatal("57014", "canceling authentication due to timeout"),
        (Side::Client, Kind::Login) => fatal("28000", "login failed"),
        (Side::Client, _) => fatal("08P01", error.for_client()),
        (Side::Upstream | Side::Ours, _) => fatal("08006", error.for_client()),
    }
}

/// Sends the last message, then ends the connection so that the client can read it ([`linger`]). At most a second; failures are of no interest
/// any more.
pub async fn say<S: AsyncRead + AsyncWrite + Unpin>(client: &mut S, message: &[u8]) {
    let said = async {
        if client.write_all(message).await.is_ok() {
            linger(client).await;
        }
    };
    let _ = timeout(LINGER, said).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::message::SqlState;

    #[test]
    fn every_error_has_a_code_and_tells_nothing_else() {
        let code = |error: &Error| SqlState::of_error(&for_error(error)[5..]).unwrap().to_string();
        let secret = "db-1.internal 10.0.0.7 doadmin";
        for (error, expected) in [
            (Error::ours(Kind::Limit, secret), "53300"),
            (Error::ours(Kind::Draining, secret), "57P01"),
            (Error::ours(Kind::Timeout, secret), "08006"),
            (Error::upstream(Kind::Tcp, secret), "08006"),
            (Error::upstream(Kind::TlsName, secret), "08006"),
            (Error::upstream(Kind::Login, secret), "08006"),
            (Error::client(Kind::Protocol, secret), "08P01"),
            (Error::client(Kind::Timeout, secret), "57014"),
        ] {
            assert_eq!(code(&error), expected, "{error}");
            assert!(!String::from_utf8_lossy(&for_error(&error)).contains("10.0.0.7"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_neither_reads_nor_closes_is_left_after_a_second() {
        let (mut near, _far) = tokio::io::duplex(4);
        let before = tokio::time::Instant::now();
        say(&mut near, &fatal("53300", "sorry")).await;
        assert_eq!(before.elapsed(), LINGER);
    }
}
