//! One connection through the gate: two directions, the faults in each, and every way to end.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch::Receiver;

use super::{End, Faults, Link, Mode, Shared, Side, lock};

/// How long a closed side may take to close in turn.
const LINGER: Duration = Duration::from_secs(1);

/// Carries bytes until both sides are done, one breaks, or the end is ordered.
pub(super) async fn carry(client: TcpStream, link: &Link, shared: &Shared, mode: Mode) {
    let mut ordered = link.end.subscribe();
    let ordered = async { ordered.wait_for(Option::is_some).await.ok().and_then(|end| *end) };
    tokio::pin!(ordered);
    if mode == Mode::Hold {
        let end = ordered.await;
        return finish(end.unwrap_or(End::ResetBoth), client, None).await;
    }
    let target = *lock(&shared.target);
    let dialled = tokio::select! {
        end = &mut ordered => return finish(end.unwrap_or(End::ResetBoth), client, None).await,
        dialled = TcpStream::connect(target) => dialled,
    };
    // The client sees a reset where it would have seen a refusal without the gate.
    let Ok(mut server) = dialled else { return finish(End::ResetBoth, client, None).await };
    let mut client = client;
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let end = {
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = server.split();
        let up = Direction { link, shared, from: Side::Client }.pump(client_read, server_write);
        let down = Direction { link, shared, from: Side::Server }.pump(server_read, client_write);
        tokio::select! {
            end = ordered => end,
            done = async { tokio::try_join!(up, down) } => done.err(),
        }
    };
    if let Some(end) = end {
        finish(end, client, Some(server)).await;
    }
}

struct Direction<'a> {
    link: &'a Link,
    shared: &'a Shared,
    from: Side,
}

impl Direction<'_> {
    /// `Ok` after a FIN was passed on; `Err` says how the connection must end.
    async fn pump(self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Result<(), End> {
        let mut faults = self.link.faults.subscribe();
        let mut buffer = vec![0; 64 * 1024];
        let mut total = 0;
        loop {
            let now = thawed(&mut faults).await;
            let room = now.pace.map_or(buffer.len(), |(bytes, _)| bytes.clamp(1, buffer.len()));
            let (free, _) = buffer.split_at_mut(room);
            let read = tokio::select! {
                biased;
                _ = faults.changed() => continue,
                read = from.read(free) => read.map_err(|_| End::Reset(self.from.other()))?,
            };
            if let Some((_, tick)) = now.pace {
                tokio::time::sleep(tick).await;
            }
            if let Some(delay) = now.delay {
                tokio::time::sleep(delay).await;
            }
            if read == 0 {
                thawed(&mut faults).await;
                // One that has closed already needs no FIN.
                let _ = to.shutdown().await;
                return Ok(());
            }
            let received = free.get(..read).unwrap_or_default();
            let bytes = now.garbage.as_deref().filter(|_| self.from == Side::Server).unwrap_or(received);
            let left = self.limit(&faults.borrow()).map(|limit| limit.saturating_sub(total));
            let allowed = left.and_then(|left| usize::try_from(left).ok()).filter(|left| *left <= bytes.len());
            let bytes = allowed.and_then(|allowed| bytes.get(..allowed)).unwrap_or(bytes);
            self.deliver(&mut to, bytes, &mut faults).await.map_err(|_| End::Reset(self.from))?;
            total += bytes.len() as u64;
            if allowed.is_some() {
                return Err(End::Cut);
            }
        }
    }

    fn limit(&self, faults: &Faults) -> Option<u64> {
        match self.from {
            Side::Client => faults.cut_after_client,
            Side::Server => faults.cut_after_server,
        }
    }

    /// Writes everything, but nothing while frozen.
    async fn deliver(&self, to: &mut WriteHalf<'_>, mut bytes: &[u8], faults: &mut Receiver<Faults>) -> io::Result<()> {
        while !bytes.is_empty() {
            thawed(faults).await;
            let written = tokio::select! {
                biased;
                _ = faults.changed() => continue,
                written = to.write(bytes) => written?,
            };
            bytes = bytes.get(written..).unwrap_or_default();
            self.from.of(&self.link.bytes).fetch_add(written as u64, Ordering::Relaxed);
            self.from.of(&self.shared.bytes).fetch_add(written as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The faults as they are now, as soon as the connection is not frozen.
async fn thawed(faults: &mut Receiver<Faults>) -> Faults {
    let now = faults.wait_for(|now| !now.frozen).await.map(|now| now.clone());
    match now {
        Ok(now) => now,
        // The link holds the sender for as long as it is carried.
        Err(_) => std::future::pending().await,
    }
}

async fn finish(end: End, client: TcpStream, server: Option<TcpStream>) {
    let (client_reset, server_reset) = match end {
        End::Cut => (false, false),
        End::Reset(side) => (side == Side::Client, side == Side::Server),
        End::ResetBoth => (true, true),
    };
    let server = async {
        if let Some(server) = server {
            close(server, server_reset).await;
        }
    };
    tokio::join!(close(client, client_reset), server);
}

async fn close(mut stream: TcpStream, reset: bool) {
    if reset {
        // Fails only on a socket that is dead already.
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        return;
    }
    let _ = stream.shutdown().await;
    // Closing with unread bytes would send RST, so read until the peer closes too.
    let drain = async {
        let mut rest = vec![0; 16 * 1024];
        while matches!(stream.read(&mut rest).await, Ok(read) if read > 0) {}
    };
    let _ = tokio::time::timeout(LINGER, drain).await;
}
