//! What is neither a plain read nor a plain write. The first look for a trap. `[pure]`

use super::Class::{self, Blocking, Forbidden, Hostile, Once, Read, Wait, Write};
use super::Group;
use super::reads::READS;
use super::writes::WRITES;
use crate::redis::class::{Local, Pinning, Transaction};

/// Every command that needs no second look.
pub(super) const GROUPS: &[&[Group]] = &[READS, WRITES, WAITING, CLIENT_STATE, TRANSACTIONS, PINNING, SERVER, HOSTILE];

/// Commands that wait only when told to: the class is the one without BLOCK.
pub(super) const STREAMS: &[Group] = &[
    Group { class: Read, why: "without BLOCK a plain read", names: &["XREAD"] },
    Group { class: Write, why: "without BLOCK a write: it moves the group's last id", names: &["XREADGROUP"] },
];

const WAITING: &[Group] = &[
    Group {
        class: Blocking,
        why: "waits until another client puts something there; in a shared connection that client may be behind it",
        names: &["BLPOP", "BRPOP", "BLMOVE", "BLMPOP", "BRPOPLPUSH", "BZPOPMIN", "BZPOPMAX", "BZMPOP"],
    },
    Group { class: Wait, why: "counts replicas that have the last write of the connection that asks", names: &["WAIT", "WAITAOF"] },
];

/// State of the client: where connections are shared the proxy keeps it.
const CLIENT_STATE: &[Group] = &[
    local(Local::Auth, "logs the connection in; clients have their own logins", &["AUTH"]),
    local(Local::Hello, "switches the connection's protocol", &["HELLO"]),
    local(Local::Select, "switches the connection's database", &["SELECT"]),
    local(Local::Quit, "closes the connection", &["QUIT"]),
    local(Local::Reset, "forgets login, protocol, database and everything else", &["RESET"]),
];

const fn local(command: Local, why: &'static str, names: &'static [&'static str]) -> Group {
    Group { class: Class::Local(command), why, names }
}

const TRANSACTIONS: &[Group] = &[
    transaction(Transaction::Multi, "what follows on the connection is queued", &["MULTI"]),
    transaction(Transaction::Exec, "runs the connection's queue", &["EXEC"]),
    transaction(Transaction::Discard, "forgets the connection's queue", &["DISCARD"]),
    transaction(Transaction::Watch, "makes the connection's next EXEC fail", &["WATCH"]),
    transaction(Transaction::Unwatch, "forgets what the connection watches", &["UNWATCH"]),
];

const fn transaction(command: Transaction, why: &'static str, names: &'static [&'static str]) -> Group {
    Group { class: Class::Transaction(command), why, names }
}

const PINNING: &[Group] = &[
    Group {
        class: Class::Pinning(Pinning::Subscribe),
        // UNSUBSCRIBE from one who has not subscribed too: a frame for each channel that it names.
        why: "answered with a frame for each channel, and messages come when they like",
        names: &["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"],
    },
    Group { class: Class::Pinning(Pinning::Monitor), why: "answered with a line for every command of everybody", names: &["MONITOR"] },
    Group {
        class: Class::Pinning(Pinning::Connection),
        why: "a cluster node treats the connection's next commands, or all of them, in another way",
        names: &["ASKING", "READONLY", "READWRITE"],
    },
];

/// The server itself, for its administrator or another server.
const SERVER: &[Group] = &[
    Group { class: Forbidden, why: "the connection would become a replication stream", names: &["SYNC", "PSYNC", "REPLCONF"] },
    Group {
        class: Once,
        why: "no answer when it works, the server is gone; it may wait for replicas until SHUTDOWN ABORT",
        names: &["SHUTDOWN"],
    },
    Group {
        class: Once,
        why: "changes the server's role, which closes connections with somebody blocked on them",
        names: &["FAILOVER", "REPLICAOF", "SLAVEOF"],
    },
    // Its subcommands differ from version to version. In RESP3 PROTOCOL may put a push in front of the one reply.
    Group { class: Once, why: "stops, crashes or restarts the server, or makes it say what it never says otherwise", names: &["DEBUG"] },
    Group {
        class: Once,
        why: "the administrator's; long, or about the whole server: not in a queue with everybody's requests",
        names: &["SAVE", "BGSAVE", "BGREWRITEAOF", "PFDEBUG", "PFSELFTEST"],
    },
];

const HOSTILE: &[Group] = &[Group {
    class: Hostile,
    why: "a browser was made to talk to us; Redis closes without a word, which would hit everybody on a shared connection",
    names: &["POST", "HOST:"],
}];
