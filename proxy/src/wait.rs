//! `redis-tls-proxy wait`: holds up a script or an init container until a proxy has started.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A process that accepts but does not answer must not use up the whole wait at once.
const ONE_TRY: Duration = Duration::from_secs(2);
/// The head of an answer of ours and its one line are far shorter.
const MAX_ANSWER_BYTES: u64 = 4096;

/// Asks `/startup` of the proxy whose `--admin` address is `admin` until it says yes, for at most `max`. An unspecified address (`0.0.0.0`)
/// stands for loopback. Cancel-safe.
///
/// # Errors
/// What the last try saw and what to do about it, when `max` has passed.
pub async fn wait(admin: SocketAddr, max: Duration) -> Result<(), String> {
    let admin = reachable(admin);
    let deadline = Instant::now() + max;
    let mut pause = FIRST_PAUSE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // At least a moment, so that `--max 0s` asks once.
        let limit = left.clamp(Duration::from_millis(200), ONE_TRY);
        let seen = tokio::time::timeout(limit, ask(admin)).await.unwrap_or(Seen::Silence);
        if matches!(seen, Seen::Yes) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("not started after {}: {admin}{seen}", humantime::format_duration(max)));
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What one try saw; shown after the address that was asked.
#[derive(Debug, PartialEq)]
enum Seen {
    Yes,
    Refused(String),
    Broke(String),
    Silence,
    NotYet(String),
    Foreign(String),
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => f.write_str(" has started"),
            Self::Refused(why) => write!(f, " cannot be reached ({why}); is the proxy running, and is this its --admin address?"),
            Self::Broke(why) => write!(f, " broke the connection ({why}); see the proxy's log"),
            Self::Silence => f.write_str(" did not answer; see the proxy's log, or is another program on this address?"),
            Self::NotYet(why) => write!(f, " answered \"{why}\"; see the proxy's log, or wait longer with --max"),
            Self::Foreign(status) => write!(f, " answered \"{status}\"; another program is on this address: give the proxy's with --admin"),
        }
    }
}

async fn ask(admin: SocketAddr) -> Seen {
    let mut stream = match TcpStream::connect(admin).await {
        Ok(stream) => stream,
        Err(error) => return Seen::Refused(error.to_string()),
    };
    let request = format!("GET /startup HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    if let Err(error) = stream.write_all(request.as_bytes()).await {
        return Seen::Broke(error.to_string());
    }
    let mut answer = Vec::new();
    match stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await {
        Ok(0) => Seen::Broke("closed without an answer".into()),
        Ok(_) => judge(&String::from_utf8_lossy(&answer)),
        Err(error) => Seen::Broke(error.to_string()),
    }
}

/// From the text of an answer. Only a 503 of ours carries a reason worth showing.
fn judge(answer: &str) -> Seen {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status_line = head.lines().next().unwrap_or_default();
    let code = status_line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    match code {
        Some("200") => Seen::Yes,
        Some("503") => Seen::NotYet(printable(body.lines().next().unwrap_or_default())),
        _ => Seen::Foreign(printable(status_line)),
    }
}

/// A stranger's line, fit for a terminal.
fn printable(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// An address that means "all of mine" when bound means nothing when dialled.
fn reachable(admin: SocketAddr) -> SocketAddr {
    let ip = match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, admin.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Answers one connection after the other with these texts, the last of them for ever.
    async fn server(answers: Vec<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut answers = answers.into_iter().peekable();
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(answer) = answers.peek().copied() else { break };
                let mut request = [0; 512];
                let read = stream.read(&mut request).await.unwrap();
                assert!(request[..read].starts_with(b"GET /startup HTTP/1.1\r\nHost: 127.0.0.1:"));
                stream.write_all(answer.as_bytes()).await.unwrap();
                if answers.len() > 1 {
                    answers.next();
                }
            }
        });
        address
    }

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";
    const NOT_YET: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 16\r\n\r\nredis-6379: later\n";

    #[tokio::test]
    async fn waits_for_a_yes() {
        let address = server(vec!["", NOT_YET, NOT_YET, OK]).await;
        wait(address, Duration::from_secs(10)).await.unwrap();
    }

    #[tokio::test]
    async fn says_why_not() {
        let address = server(vec![NOT_YET]).await;
        let error = wait(address, Duration::from_millis(100)).await.unwrap_err();
        assert_eq!(
            error,
            format!("not started after 100ms: {address} answered \"redis-6379: later\"; see the proxy's log, or wait longer with --max")
        );
    }

    #[tokio::test]
    async fn nobody_there_is_named_as_such() {
        // Bound and never listening: nobody else can take the port during the test.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = wait(socket.local_addr().unwrap(), Duration::ZERO).await.unwrap_err();
        assert!(error.contains("cannot be reached (Connection refused"), "{error}");
        assert!(error.contains("--admin"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_program_does_not_hold_it_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = wait(listener.local_addr().unwrap(), Duration::from_secs(5)).await.unwrap_err();
        assert!(error.contains("did not answer"), "{error}");
    }

    #[test]
    fn other_programs_are_recognised() {
        assert_eq!(judge("HTTP/1.1 404 Not Found\r\n\r\n"), Seen::Foreign("HTTP/1.1 404 Not Found".into()));
        assert_eq!(judge("-ERR unknown\x1b[2J command\r\n"), Seen::Foreign("-ERR unknown[2J command".into()));
        assert_eq!(judge("SSH-2.0 200 200"), Seen::Foreign("SSH-2.0 200 200".into()));
        assert_eq!(judge(OK), Seen::Yes);
    }

    #[test]
    fn all_addresses_become_loopback() {
        let dialled = |bound: &str| reachable(bound.parse().unwrap()).to_string();
        assert_eq!([dialled("0.0.0.0:9"), dialled("[::]:9"), dialled("10.0.0.1:9")], ["127.0.0.1:9", "[::1]:9", "10.0.0.1:9"]);
    }
}
