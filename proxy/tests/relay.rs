//! The relay is exact: bytes, ends, resets and backpressure, through the built program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may say what they expect too"
)]

mod support;

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use fastrand::Rng;
use lab::{Authority, Redis, until};
use support::{Front, SOON, Trust, front, redis_front, reset_on_close, text, tls_server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep, timeout};

const MIB: u64 = 1024 * 1024;

/// Bytes each way: 1 GiB, but 64 MiB in debug builds unless `LAB_FULL=1`.
fn transfer_bytes() -> u64 {
    let full = std::env::var("LAB_FULL").is_ok_and(|value| value == "1");
    if full || !cfg!(debug_assertions) { 1024 * MIB } else { 64 * MIB }
}

/// Writes `total` random bytes in pieces of random size, and closes its direction; returns their hash.
async fn send<W: AsyncWrite + Unpin>(mut to: W, total: u64, seed: u64) -> Digest {
    let (mut rng, mut hash, mut left) = (Rng::with_seed(seed), Context::new(&SHA256), total);
    let mut block = vec![0; 256 * 1024];
    while left > 0 {
        // Mostly large, sometimes a few bytes, as real traffic is.
        let size = if rng.u8(..) < 32 { rng.usize(1..100) } else { rng.usize(1..=block.len()) };
        let piece = &mut block[..size.min(usize::try_from(left).unwrap_or(usize::MAX))];
        rng.fill(piece);
        hash.update(piece);
        to.write_all(piece).await.unwrap();
        left -= piece.len() as u64;
    }
    to.shutdown().await.unwrap();
    hash.finish()
}

/// Reads to the end in pieces of random size; returns how much it was and its hash.
async fn receive<R: AsyncRead + Unpin>(mut from: R) -> (u64, Digest) {
    let (mut rng, mut hash, mut total) = (Rng::new(), Context::new(&SHA256), 0);
    let mut block = vec![0; 256 * 1024];
    loop {
        let room = rng.usize(1..=block.len());
        let read = from.read(&mut block[..room]).await.unwrap();
        if read == 0 {
            return (total, hash.finish());
        }
        hash.update(&block[..read]);
        total += read as u64;
    }
}

async fn tls_front(trust: &Trust, server: std::net::SocketAddr, arguments: &[&str]) -> Front {
    front(&format!("tls://localhost:{}", server.port()), &trust.ca, arguments).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transfer_is_exact_both_ways_at_once() {
    let trust = Trust::new();
    let total = transfer_bytes();
    let (results, mut result) = mpsc::channel(1);
    let server = tls_server(trust.server_config(), move |stream| {
        let results = results.clone();
        async move {
            let (read, write) = tokio::io::split(stream);
            let both = tokio::join!(receive(read), send(write, total, 1));
            results.send(both).await.unwrap();
        }
    })
    .await;
    let front = tls_front(&trust, server, &[]).await;
    let (read, write) = front.tcp().await.into_split();
    let (sent, (down_bytes, down)) = tokio::join!(tokio::spawn(send(write, total, 2)), receive(read));
    let ((up_bytes, up), server_sent) = result.recv().await.unwrap();
    assert_eq!((up_bytes, down_bytes), (total, total));
    assert_eq!(up.as_ref(), sent.unwrap().as_ref(), "client to server");
    assert_eq!(down.as_ref(), server_sent.as_ref(), "server to client");
    front.wait("clients_closed_total", &[], |closed| closed == 1.0).await;
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let total = total as f64;
    assert_eq!(front.metric("bytes_total", &[("direction", "client_to_upstream")]).await, total);
    assert_eq!(front.metric("bytes_total", &[("direction", "upstream_to_client")]).await, total);
}

#[tokio::test]
async fn a_late_reply_reaches_a_client_that_has_closed_its_half() {
    let trust = Trust::new();
    let server = tls_server(trust.server_config(), |mut stream| async move {
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked).await.unwrap();
        // Longer than any linger: the half-closed state itself must last.
        sleep(Duration::from_millis(1500)).await;
        asked.reverse();
        stream.write_all(&asked).await.unwrap();
        stream.shutdown().await.unwrap();
    })
    .await;
    let front = tls_front(&trust, server, &[]).await;
    let mut client = front.tcp().await;
    let started = Instant::now();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = Vec::new();
    timeout(SOON, client.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert_eq!(text(&answer), "noitseuq");
    assert!(started.elapsed() > Duration::from_secs(1));
    front.wait("clients_closed_total", &[("reason", "client")], |closed| closed == 1.0).await;
}

#[tokio::test]
async fn a_client_may_go_on_sending_after_the_server_has_closed_its_half() {
    let trust = Trust::new();
    let (results, mut result) = mpsc::channel(1);
    let server = tls_server(trust.server_config(), move |mut stream| {
        let results = results.clone();
        async move {
            stream.write_all(b"only this").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            results.send(rest).await.unwrap();
        }
    })
    .await;
    let front = tls_front(&trust, server, &["--pool-min-idle", "0"]).await;
    let mut client = front.tcp().await;
    let mut greeting = Vec::new();
    timeout(SOON, client.read_to_end(&mut greeting)).await.unwrap().unwrap();
    assert_eq!(text(&greeting), "only this");
    let late = vec![7; 300_000];
    client.write_all(&late).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(timeout(SOON, result.recv()).await.unwrap().unwrap(), late);
}

#[tokio::test]
async fn a_reset_by_the_client_is_a_reset_for_the_server() {
    let trust = Trust::new();
    let (results, mut result) = mpsc::channel(1);
    let server = tls_server(trust.server_config(), move |mut stream| {
        let results = results.clone();
        async move {
            let mut word = [0; 5];
            // A connection of the stock that nobody ever uses ends here.
            if stream.read_exact(&mut word).await.is_ok() {
                stream.write_all(&word).await.unwrap();
                results.send(stream.read(&mut word).await).await.unwrap();
            }
        }
    })
    .await;
    let front = tls_front(&trust, server, &[]).await;
    let mut client = front.tcp().await;
    client.write_all(b"hello").await.unwrap();
    client.read_exact(&mut [0; 5]).await.unwrap();
    reset_on_close(&client);
    drop(client);
    let seen = timeout(SOON, result.recv()).await.unwrap().unwrap();
    assert_eq!(seen.unwrap_err().kind(), ErrorKind::ConnectionReset);
    front.wait("clients_closed_total", &[("reason", "client_error")], |closed| closed == 1.0).await;
}

#[tokio::test]
async fn a_reset_by_the_server_is_a_reset_for_the_client() {
    let trust = Trust::new();
    let server = tls_server(trust.server_config(), |mut stream| async move {
        let mut word = [0; 5];
        if stream.read_exact(&mut word).await.is_ok() {
            reset_on_close(stream.get_ref().0);
        }
    })
    .await;
    let front = tls_front(&trust, server, &[]).await;
    let mut client = front.tcp().await;
    client.write_all(b"hello").await.unwrap();
    let seen = timeout(SOON, client.read(&mut [0; 5])).await.unwrap();
    assert_eq!(seen.unwrap_err().kind(), ErrorKind::ConnectionReset);
    front.wait("clients_closed_total", &[("reason", "upstream_error")], |closed| closed == 1.0).await;
}

/// A write can meet the server's reset before a read does, and must not turn it into an orderly end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_by_the_server_reaches_a_client_that_is_writing() {
    let trust = Trust::new();
    let server = tls_server(trust.server_config(), |mut stream| async move {
        let mut some = [0; 1000];
        if stream.read_exact(&mut some).await.is_ok() {
            reset_on_close(stream.get_ref().0);
        }
    })
    .await;
    let front = tls_front(&trust, server, &[]).await;
    for round in 0..30 {
        let (mut read, mut write) = front.tcp().await.into_split();
        let sending = tokio::spawn(async move {
            // Often, but without filling every buffer on the way.
            let mut tick = interval(Duration::from_micros(200));
            loop {
                tick.tick().await;
                if let Err(error) = write.write_all(&[1; 1000]).await {
                    return error.kind();
                }
            }
        });
        let read = timeout(SOON, read.read(&mut [0; 5])).await.unwrap().map_err(|error| error.kind());
        // The kernel tells of a reset once: to whichever of the two asks first.
        let written = timeout(SOON, sending).await.unwrap().unwrap();
        assert!(
            read == Err(ErrorKind::ConnectionReset) || written == ErrorKind::ConnectionReset,
            "round {round}: {read:?}, {written:?}\n{}",
            front.proxy.stderr()
        );
    }
}

/// What was whole before a bad record has been received; only then comes the failure.
#[tokio::test]
async fn bytes_before_a_tls_failure_are_delivered() {
    let trust = Trust::new();
    let server = tls_server(trust.server_config(), |mut stream| async move {
        let mut word = [0; 5];
        if stream.read_exact(&mut word).await.is_ok() {
            // Two records in one segment: a good one, and one whose tag is wrong.
            let (tcp, tls) = stream.get_mut();
            std::io::Write::write_all(&mut tls.writer(), &[7; 10_000]).unwrap();
            let mut wire = Vec::new();
            tls.write_tls(&mut wire).unwrap();
            wire.extend_from_slice(&[23, 3, 3, 0, 32]);
            wire.extend_from_slice(&[0; 32]);
            tcp.write_all(&wire).await.unwrap();
            // Until the proxy has given up on it.
            let _ = tcp.read(&mut [0; 512]).await;
        }
    })
    .await;
    let front = tls_front(&trust, server, &[]).await;
    let mut client = front.tcp().await;
    client.write_all(b"hello").await.unwrap();
    let mut heard = vec![0; 10_000];
    timeout(SOON, client.read_exact(&mut heard)).await.unwrap().unwrap();
    assert!(heard.iter().all(|byte| *byte == 7));
    let end = timeout(SOON, client.read(&mut [0])).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    front.wait("errors_total", &[("kind", "tls_other")], |errors| errors == 1.0).await;
}

/// A server out of memory, out of connections or shutting down says so and closes, whatever the client is sending meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn last_words_reach_a_client_that_is_still_sending() {
    const WORDS: &[u8] = b"-ERR these are my last words\r\n";
    let trust = Trust::new();
    let server = tls_server(trust.server_config(), |mut stream| async move {
        let mut some = [0; 1000];
        if stream.read_exact(&mut some).await.is_ok() {
            stream.write_all(WORDS).await.unwrap();
            stream.shutdown().await.unwrap();
            // Dropped with unread bytes: the kernel sends RST right behind the words.
        }
    })
    .await;
    let front = tls_front(&trust, server, &[]).await;
    for round in 0..30 {
        let (mut read, mut write) = front.tcp().await.into_split();
        let sending = tokio::spawn(async move { while write.write_all(&[1; 32 * 1024]).await.is_ok() {} });
        let mut heard = vec![0; WORDS.len()];
        let read = timeout(SOON, read.read_exact(&mut heard)).await;
        assert!(matches!(read, Ok(Ok(_))), "round {round}: {read:?}\n{}", front.proxy.stderr());
        assert_eq!(text(&heard), text(WORDS), "round {round}");
        if round > 0 {
            sending.abort();
        } else {
            // One that does not listen is stopped all the same.
            timeout(SOON, sending).await.expect("the client is stopped").unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_costs_no_memory() {
    const TOTAL: u64 = 256 * MIB;
    let trust = Trust::new();
    let written = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&written);
    let server = tls_server(trust.server_config(), move |mut stream| {
        let counter = Arc::clone(&counter);
        async move {
            let mut total = [0; 8];
            if stream.read_exact(&mut total).await.is_err() {
                return;
            }
            let mut left = u64::from_be_bytes(total);
            while left > 0 {
                let piece = vec![b'x'; usize::try_from(left.min(64 * 1024)).unwrap()];
                stream.write_all(&piece).await.unwrap();
                left -= piece.len() as u64;
                counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            stream.shutdown().await.unwrap();
        }
    })
    .await;
    // One worker, so that the warm-up touches every page that the transfer needs.
    let front = tls_front(&trust, server, &["--workers", "1"]).await;
    let read_all = async |mut client: tokio::net::TcpStream| {
        let (mut total, mut block) = (0, vec![0; 256 * 1024]);
        loop {
            match client.read(&mut block).await.unwrap() {
                0 => return total,
                read => {
                    assert!(block[..read].iter().all(|byte| *byte == b'x'));
                    total += read as u64;
                }
            }
        }
    };
    let mut warm_up = front.tcp().await;
    warm_up.write_all(&(4 * MIB).to_be_bytes()).await.unwrap();
    assert_eq!(read_all(warm_up).await, 4 * MIB);

    let before = front.proxy.usage().unwrap().rss_bytes;
    written.store(0, Ordering::Relaxed);
    let mut client = front.tcp().await;
    client.write_all(&TOTAL.to_be_bytes()).await.unwrap();
    let (mut last, mut since) = (0, Instant::now());
    until("the server is stopped by backpressure", SOON, || {
        let now = written.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        now > 0 && since.elapsed() > Duration::from_millis(500)
    })
    .await
    .unwrap();
    assert!(last < TOTAL, "everything was swallowed: the kernel's buffers are larger than the test");
    let after = front.proxy.usage().unwrap().rss_bytes;
    assert!(after < before + 2 * MIB, "{before} bytes before, {after} with a client that does not read");
    assert_eq!(timeout(Duration::from_secs(60), read_all(client)).await.unwrap(), TOTAL);
    let after = front.proxy.usage().unwrap().rss_bytes;
    assert!(after < before + 2 * MIB, "{before} bytes before, {after} after all was read");
}

#[tokio::test]
async fn a_silent_client_is_closed_and_a_busy_one_is_not() {
    let authority = Authority::new().unwrap();
    let redis = Redis::start(&authority).await.unwrap();
    let front = redis_front(&redis, &["--idle-timeout", "1s"]).await;
    let (mut silent, mut busy, mut mute) = (front.resp().await, front.resp().await, front.resp().await);
    silent.command(&["PING"]).await.unwrap();
    let started = Instant::now();
    let kept_busy = async {
        let mut tick = interval(Duration::from_millis(300));
        while started.elapsed() < Duration::from_secs(2) {
            tick.tick().await;
            assert_eq!(busy.command(&["PING"]).await.unwrap().text(), "PONG");
        }
    };
    let closed = async {
        assert_eq!(timeout(SOON, silent.read_to_end()).await.unwrap().unwrap(), b"");
        let lasted = started.elapsed();
        assert!(lasted > Duration::from_millis(900) && lasted < Duration::from_millis(1900), "{lasted:?}");
        // One that never said a word is silent too.
        assert_eq!(timeout(SOON, mute.read_to_end()).await.unwrap().unwrap(), b"");
    };
    tokio::join!(kept_busy, closed);
    assert_eq!(front.metric("clients_closed_total", &[("reason", "idle")]).await, 1.0);
}

#[tokio::test]
async fn a_unix_socket_serves_redis_cli_and_leaves_no_file() {
    let trust = Trust::new();
    let redis = Redis::start(&trust.authority).await.unwrap();
    let path = trust.path("redis.sock");
    let mut front = redis_front(&redis, &["--listen", &format!("unix:{}", path.display())]).await;
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o660);
    let mut redis_cli = Command::new("redis-cli");
    redis_cli.arg("-s").arg(&path).args(["SET", "key", "over a unix socket"]);
    let output = support::run(redis_cli).await.unwrap();
    assert_eq!(text(&output.stdout).trim(), "OK", "{}", text(&output.stderr));
    assert_eq!(redis.admin(&["GET", "key"]).await.unwrap().text(), "over a unix socket");
    front.proxy.term();
    assert_eq!(front.proxy.wait_exit(SOON).await.unwrap().code(), Some(0), "{}", front.proxy.stderr());
    assert!(!path.exists(), "the socket's file is still there");
}
