//! What a command means for the connection that carries it: the question that decides where it may go. `[pure]`
//!
//! The answer is never guessed: what [`super::table`] does not know is [`Class::Unknown`], and gets a connection of its own.

/// The class of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Leaves nothing on the connection and changes no data.
    Read,
    /// Leaves nothing on the connection and may change data, or send to subscribers: a later WAIT is about it.
    Write,
    /// WAIT, WAITAOF: promises about the writes of the connection that carries it.
    Wait,
    /// State of the client, which the proxy keeps for it where connections are shared.
    Local(Local),
    /// Begins, ends or belongs to a transaction.
    Transaction(Transaction),
    /// May wait for other clients: BLPOP and its kind, XREAD with BLOCK. Leaves nothing on the connection.
    Blocking,
    /// Has to get past whatever a shared connection is busy with, or is better not behind others. Leaves nothing on the connection, but may
    /// close it: CLIENT KILL, SHUTDOWN, ACL DELUSER.
    Once,
    /// Leaves state that only RESET, or closing, takes away.
    Pinning(Pinning),
    /// Would turn the connection into a replication stream.
    Forbidden,
    /// `POST` and `Host:`: a browser that was made to talk to us. Redis closes without a word.
    Hostile,
    /// Not in the table.
    Unknown,
}

/// Commands that concern the client and not the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// AUTH.
    Auth,
    /// HELLO.
    Hello,
    /// SELECT.
    Select,
    /// QUIT.
    Quit,
    /// RESET.
    Reset,
    /// CLIENT SETNAME.
    SetName,
    /// CLIENT GETNAME.
    GetName,
    /// CLIENT SETINFO.
    SetInfo,
    /// CLIENT MAINT_NOTIFICATIONS: go-redis asks for it at every connect. Nothing that a proxy could promise.
    MaintNotifications,
}

/// Commands around transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// MULTI.
    Multi,
    /// EXEC.
    Exec,
    /// DISCARD.
    Discard,
    /// WATCH.
    Watch,
    /// UNWATCH.
    Unwatch,
}

/// What kind of state a command leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinning {
    /// SUBSCRIBE and its kind.
    Subscribe,
    /// MONITOR.
    Monitor,
    /// CLIENT REPLY: what is answered from now on cannot be counted.
    Silent,
    /// CLIENT TRACKING, CACHING, ID, INFO, … ASKING, READONLY, READWRITE. RESET clears it.
    Connection,
    /// CLIENT NO-EVICT, NO-TOUCH, CAPA, SCRIPT DEBUG, …: state that not even RESET clears on every server. The connection must be closed in the end.
    Forever,
}
