//! An upstream connection on its way from one worker to another.

use std::io;
use std::net::SocketAddr;

use super::Connection;
use crate::stream::Detached;

/// A [`Connection`] that no runtime looks after. It may be sent to another thread; nobody notices meanwhile when the server closes it.
pub struct DetachedConnection {
    stream: Detached,
    address: SocketAddr,
    generation: u64,
}

impl Connection {
    /// Takes it from this runtime. `None`, and it is closed: it has failed, or something of a message has arrived already.
    #[must_use]
    pub fn detach(self) -> Option<DetachedConnection> {
        let Self { stream, early, address, generation } = self;
        let stream = if early.is_empty() { stream.detach()? } else { return None };
        Some(DetachedConnection { stream, address, generation })
    }
}

impl DetachedConnection {
    /// Gives it to the runtime of this thread.
    ///
    /// # Errors
    /// The runtime's own; the connection is then closed.
    pub fn attach(self) -> io::Result<Connection> {
        let Self { stream, address, generation } = self;
        Ok(Connection { stream: stream.attach()?, early: Vec::new(), address, generation })
    }
}
