//! Commands that are told apart by their first argument. A subcommand that is not here is unknown. `[pure]`

use super::Class::{self, Forbidden, Once, Read, Write};
use super::{Container, Group};
use crate::redis::class::{Local, Pinning};

const CONNECTION: Class = Class::Pinning(Pinning::Connection);
const FOREVER: Class = Class::Pinning(Pinning::Forever);
const SILENT: Class = Class::Pinning(Pinning::Silent);
const ADMIN: &str = "the administrator's; changes the server: not in a queue with everybody's requests";
const LOOKS: &str = "only looks at the server";

const fn container(name: &'static str, groups: &'static [Group]) -> Container {
    Container { name, groups }
}

const fn group(class: Class, why: &'static str, names: &'static [&'static str]) -> Group {
    Group { class, why, names }
}

pub(super) const CONTAINERS: &[Container] = &[
    container("CLIENT", CLIENT),
    // Alone it is COMMAND INFO of everything.
    container("COMMAND", &[group(Read, LOOKS, &["COUNT", "DOCS", "GETKEYS", "GETKEYSANDFLAGS", "HELP", "INFO", "LIST"])]),
    container("CONFIG", &[group(Read, LOOKS, &["GET", "HELP"]), group(Once, ADMIN, &["RESETSTAT", "REWRITE", "SET"])]),
    container("OBJECT", &[group(Read, "reads keys", &["ENCODING", "FREQ", "HELP", "IDLETIME", "REFCOUNT"])]),
    container("XINFO", &[group(Read, "reads keys", &["CONSUMERS", "GROUPS", "HELP", "STREAM"])]),
    container(
        "XGROUP",
        &[group(Write, "writes keys", &["CREATE", "CREATECONSUMER", "DELCONSUMER", "DESTROY", "SETID"]), group(Read, LOOKS, &["HELP"])],
    ),
    // PUBSUB looks at all connections, whoever asks.
    container("PUBSUB", &[group(Read, LOOKS, &["CHANNELS", "HELP", "NUMPAT", "NUMSUB", "SHARDCHANNELS", "SHARDNUMSUB"])]),
    container(
        "SCRIPT",
        &[
            group(Read, LOOKS, &["EXISTS", "HELP", "SHOW"]), // SHOW: Valkey 8
            // The cache of scripts is the server's. Replicated before 7.0, so WAIT counts it.
            group(Write, "changes the server's cache of scripts, as EVAL does", &["FLUSH", "LOAD"]),
            group(Once, "the script that it should end may be the one that holds up the shared connection", &["KILL"]),
            // RESET does not clear it, and the next EVAL speaks the debugger's language.
            group(FOREVER, "turns the connection into a debugger's", &["DEBUG"]),
        ],
    ),
    container(
        "FUNCTION",
        &[
            group(Read, LOOKS, &["DUMP", "HELP", "LIST"]),
            group(Write, "libraries are replicated like data", &["DELETE", "FLUSH", "LOAD", "RESTORE"]),
            group(Once, "is about the function that holds up the shared connection", &["KILL", "STATS"]),
        ],
    ),
    container(
        "ACL",
        &[
            // WHOAMI: who the connection is logged in as, which is who the server takes the client for.
            group(Read, LOOKS, &["CAT", "DRYRUN", "GENPASS", "GETUSER", "HELP", "LIST", "LOG", "USERS", "WHOAMI"]),
            group(Once, "closes the connections of users that it changes, this one perhaps", &["DELUSER", "LOAD", "SETUSER"]),
            group(Once, ADMIN, &["SAVE"]),
        ],
    ),
    container(
        "LATENCY",
        &[group(Read, LOOKS, &["DOCTOR", "GRAPH", "HELP", "HISTOGRAM", "HISTORY", "LATEST"]), group(Once, ADMIN, &["RESET"])],
    ),
    container("MEMORY", &[group(Read, LOOKS, &["DOCTOR", "HELP", "MALLOC-STATS", "STATS", "USAGE"]), group(Once, ADMIN, &["PURGE"])]),
    container("SLOWLOG", &[group(Read, LOOKS, &["GET", "HELP", "LEN"]), group(Once, ADMIN, &["RESET"])]),
    container("COMMANDLOG", &[group(Read, LOOKS, &["GET", "HELP", "LEN"]), group(Once, ADMIN, &["RESET"])]), // Valkey 8.1
    container("HOTKEYS", &[group(Read, LOOKS, &["GET", "HELP"]), group(Once, ADMIN, &["RESET", "START", "STOP"])]), // Redis 8.6
    container("MODULE", &[group(Read, LOOKS, &["HELP", "LIST"]), group(Once, ADMIN, &["LOAD", "LOADEX", "UNLOAD"])]),
    container("CLUSTER", CLUSTER),
    container("SENTINEL", SENTINEL),
];

const CLIENT: &[Group] = &[
    group(Read, "only text", &["HELP"]),
    group(Class::Local(Local::SetName), "the connection's name", &["SETNAME"]),
    group(Class::Local(Local::GetName), "the connection's name", &["GETNAME"]),
    group(Class::Local(Local::SetInfo), "the connection's library; RESET keeps it", &["SETINFO"]),
    group(Class::Local(Local::MaintNotifications), "asks for pushes about maintenance of this connection", &["MAINT_NOTIFICATIONS"]),
    // Must get past a connection that is blocked, paused or busy; KILL may also close the very connection.
    group(Once, "about other connections, perhaps the one it would have to wait for", &["KILL", "LIST", "PAUSE", "UNBLOCK", "UNPAUSE"]),
    // An id is asked for to be used: CLIENT KILL, UNBLOCK, TRACKING REDIRECT. It must be the client's own for as long as it lives.
    group(CONNECTION, "about the connection itself: id, addresses, flags", &["ID", "INFO"]),
    group(CONNECTION, "keys that the connection read are remembered, and pushes come when they like", &["TRACKING"]),
    group(CONNECTION, "changes what tracking remembers of the connection's next command", &["CACHING"]),
    group(CONNECTION, "about the connection's tracking", &["GETREDIR", "TRACKINGINFO"]),
    // Reset clears it, but nobody can say any more how many replies are owed.
    group(SILENT, "no replies, to itself neither: they cannot be counted any more", &["REPLY"]),
    // Redis 7.0 keeps NO-EVICT through RESET; Valkey keeps the last two.
    group(FOREVER, "flags of the connection that not every server's RESET clears", &["NO-EVICT", "NO-TOUCH", "CAPA", "IMPORT-SOURCE"]),
];

const CLUSTER: &[Group] = &[
    group(
        Read,
        "only looks at the cluster",
        &[
            "COUNT-FAILURE-REPORTS",
            "COUNTKEYSINSLOT",
            "GETKEYSINSLOT",
            "GETSLOTMIGRATIONS",
            "HELP",
            "INFO",
            "KEYSLOT",
            "LINKS",
            "MYID",
            "MYSHARDID",
            "NODES",
            "REPLICAS",
            "SHARDS",
            "SLAVES",
            "SLOT-STATS",
            "SLOTS",
        ],
    ),
    group(
        Once,
        ADMIN,
        &[
            "ADDSLOTS",
            "ADDSLOTSRANGE",
            "BUMPEPOCH",
            "CANCELSLOTMIGRATIONS",
            "DELSLOTS",
            "DELSLOTSRANGE",
            "FAILOVER",
            "FLUSHSLOT",
            "FLUSHSLOTS",
            "FORGET",
            "MEET",
            "MIGRATESLOTS",
            "MIGRATION",
            "REPLICATE",
            "RESET",
            "SAVECONFIG",
            "SET-CONFIG-EPOCH",
            "SETSLOT",
        ],
    ),
    // Redis 8.4, Valkey 9: how nodes hand slots to each other.
    group(Forbidden, "the connection would become a replication stream", &["SYNCSLOTS"]),
];

const SENTINEL: &[Group] = &[
    group(
        Read,
        "only looks at what the sentinel watches",
        &[
            "CKQUORUM",
            "GET-MASTER-ADDR-BY-NAME",
            "GET-PRIMARY-ADDR-BY-NAME",
            "HELP",
            "INFO-CACHE",
            "MASTER",
            "MASTERS",
            "MYID",
            "PENDING-SCRIPTS",
            "PRIMARIES",
            "PRIMARY",
            "REPLICAS",
            "SENTINELS",
            "SLAVES",
        ],
    ),
    group(
        Once,
        ADMIN,
        &[
            "CONFIG",
            "DEBUG",
            "FAILOVER",
            "FLUSHCONFIG",
            // Also a vote.
            "IS-MASTER-DOWN-BY-ADDR",
            "IS-PRIMARY-DOWN-BY-ADDR",
            "MONITOR",
            "REMOVE",
            "RESET",
            "SET",
            "SIMULATE-FAILURE",
        ],
    ),
];
