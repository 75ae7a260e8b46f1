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
    /// True when nothing has arrived on it that would be lost on the way.
    pub fn can_detach(&mut self) -> bool {
        self.early.is_empty() && self.stream.is_quiet()
    }

    /// Takes it from this runtime; only if it [can be](Connection::can_detach).
    #[must_use]
    pub fn detach(self) -> DetachedConnection {
        DetachedConnection { stream: self.stream.detach(), address: self.address, generation: self.generation }
    }
}

impl DetachedConnection {
    /// Gives it to the runtime of this thread.
    ///
    /// # Errors
    /// As [`Detached::attach`].
    pub fn attach(self) -> io::Result<Connection> {
        let Self { stream, address, generation } = self;
        Ok(Connection { stream: stream.attach()?, early: Vec::new(), address, generation })
    }
}
