//! The gate's faults do what they say.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use lab::{Gate, Side};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(5);
/// Long enough to notice an answer that must not come.
const SILENCE: Duration = Duration::from_millis(60);

/// Sends back what it gets, and its own name first.
async fn echo(name: &'static str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                write.write_all(name.as_bytes()).await?;
                tokio::io::copy(&mut read, &mut write).await?;
                write.shutdown().await
            });
        }
    });
    Ok(address)
}

/// A client that has seen the server's one-letter name.
async fn greeted(gate: &Gate, name: &str) -> std::io::Result<TcpStream> {
    let mut client = TcpStream::connect(gate.address()).await?;
    let mut letter = [0];
    client.read_exact(&mut letter).await?;
    assert_eq!(letter, name.as_bytes());
    Ok(client)
}

async fn exchange(client: &mut TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    client.write_all(bytes).await?;
    let mut answer = vec![0; bytes.len()];
    client.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn a_gate_without_faults_carries_everything_and_half_closes() {
    let gate = Gate::start(echo("a").await.unwrap()).await.unwrap();
    let client = greeted(&gate, "a").await.unwrap();
    let big: Vec<u8> = (0..1_000_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    let (mut read, mut write) = client.into_split();
    let send = async {
        write.write_all(&big).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let (read, ()) = tokio::join!(read.read_to_end(&mut back), send);
    read.unwrap();
    assert!(back == big, "the bytes must come back as they went");
    gate.wait_open(0, SOON).await.unwrap();
    assert_eq!((gate.accepted(), gate.bytes(Side::Client), gate.bytes(Side::Server)), (1, 1_000_000, 1_000_001));
}

#[tokio::test]
async fn delay_and_pace_slow_it_down() {
    let gate = Gate::start(echo("a").await.unwrap()).await.unwrap();
    let mut client = greeted(&gate, "a").await.unwrap();
    gate.delay(Duration::from_millis(30));
    let start = Instant::now();
    exchange(&mut client, b"x").await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(60), "30 ms each way");
    gate.clear().await.unwrap();
    gate.slow(10, Duration::from_millis(5));
    let start = Instant::now();
    exchange(&mut client, &[7; 100]).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(50), "ten pieces of 5 ms");
}

#[tokio::test]
async fn frozen_connections_stay_open_and_lose_nothing() {
    let gate = Gate::start(echo("a").await.unwrap()).await.unwrap();
    let (mut one, mut two) = (greeted(&gate, "a").await.unwrap(), greeted(&gate, "a").await.unwrap());
    gate.connections()[0].set(|faults| faults.frozen = true);
    timeout(SILENCE, exchange(&mut one, b"1")).await.expect_err("frozen");
    exchange(&mut two, b"2").await.expect("only the first is frozen");
    gate.freeze();
    timeout(SILENCE, exchange(&mut two, b"3")).await.expect_err("frozen");
    assert_eq!(gate.open(), 2);
    gate.thaw();
    for (client, sent) in [(&mut one, b"1"), (&mut two, b"3")] {
        let mut answer = [0];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, sent);
    }
}

#[tokio::test]
async fn cut_is_a_fin_and_reset_is_a_reset() {
    let gate = Gate::start(echo("a").await.unwrap()).await.unwrap();
    let mut client = greeted(&gate, "a").await.unwrap();
    gate.cut();
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "FIN");
    for both in [false, true] {
        let mut client = greeted(&gate, "a").await.unwrap();
        if both {
            gate.reset_both();
        } else {
            gate.reset(Side::Client);
        }
        assert_eq!(client.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let mut client = greeted(&gate, "a").await.unwrap();
    gate.reset(Side::Server);
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "the other side is closed in an orderly way");
    drop(client);
    gate.wait_open(0, SOON).await.unwrap();
}

#[tokio::test]
async fn it_cuts_after_exactly_so_many_bytes() {
    let gate = Gate::start(echo("a").await.unwrap()).await.unwrap();
    gate.cut_after(Side::Server, 6);
    let mut client = greeted(&gate, "a").await.unwrap();
    client.write_all(&[9; 100]).await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, [9; 5]);
    gate.clear().await.unwrap();
    gate.cut_after(Side::Client, 3);
    let mut client = greeted(&gate, "a").await.unwrap();
    client.write_all(&[9; 3]).await.unwrap();
    client.read_to_end(&mut Vec::new()).await.unwrap();
    drop(client);
    gate.wait_open(0, SOON).await.unwrap();
    assert_eq!(gate.connections().len(), 0);
}

#[tokio::test]
async fn garbage_takes_the_place_of_answers() {
    let gate = Gate::start(echo("a").await.unwrap()).await.unwrap();
    let mut client = greeted(&gate, "a").await.unwrap();
    gate.garbage(b"!?");
    assert_eq!(exchange(&mut client, b"xy").await.unwrap(), b"!?");
}

#[tokio::test]
async fn refusing_and_holding_and_clearing() {
    let gate = Gate::start(echo("a").await.unwrap()).await.unwrap();
    let mut before = greeted(&gate, "a").await.unwrap();
    gate.refuse().await.unwrap();
    assert_eq!(TcpStream::connect(gate.address()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    gate.hold().await.unwrap();
    let mut held = TcpStream::connect(gate.address()).await.unwrap();
    timeout(SILENCE, held.read(&mut [0; 8])).await.expect_err("nobody answers");
    gate.clear().await.unwrap();
    greeted(&gate, "a").await.unwrap();
    assert_eq!(exchange(&mut before, b"still").await.unwrap(), b"still");
}

#[tokio::test]
async fn retargeting_moves_new_connections_only() {
    let gate = Gate::start(echo("a").await.unwrap()).await.unwrap();
    let mut old = greeted(&gate, "a").await.unwrap();
    gate.retarget(echo("b").await.unwrap());
    greeted(&gate, "b").await.unwrap();
    assert_eq!(exchange(&mut old, b"x").await.unwrap(), b"x");
}

#[tokio::test]
async fn dropping_the_gate_closes_everything() {
    let gate = Gate::start(echo("a").await.unwrap()).await.unwrap();
    let mut client = greeted(&gate, "a").await.unwrap();
    let address = gate.address();
    drop(gate);
    // FIN or RST, depending on what was in flight.
    assert!(matches!(timeout(SOON, client.read(&mut [0; 8])).await.unwrap(), Ok(0) | Err(_)));
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(SOON, refused).await.expect("the port must close");
}
