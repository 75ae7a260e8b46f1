//! `[pure]` What passes between a client and the server, message by message: names rewritten, replies expected, state followed.

use std::rc::Rc;

use super::params::Params;
use crate::postgres::traces::Traces;

/// The server's half: what is known of the session on one upstream connection. Stays with the connection when clients change.
pub struct Server {
    /// The settings of a new connection.
    pub base: Rc<Params>,
    /// The settings that the connection has.
    pub params: Rc<Params>,
    /// What its client may have left on it.
    pub traces: Traces,
}

impl Server {
    /// Of a new connection.
    #[must_use]
    pub fn new(base: Rc<Params>) -> Self {
        Self { params: Rc::clone(&base), base, traces: Traces::NONE }
    }

    /// The server has done DISCARD ALL: no statements, no traces, the settings of a new connection.
    pub fn discarded(&mut self) {
        self.params = Rc::clone(&self.base);
        self.traces = Traces::NONE;
    }
}
