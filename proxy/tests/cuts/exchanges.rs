//! The exchanges: requests of every class, each leaving the connection and the server as it found them, or closing the connection.

use lab::resp::encode;

/// What a client sends in one go.
pub(crate) struct Exchange {
    pub(crate) name: &'static str,
    pub(crate) requests: Vec<u8>,
    /// How many frames come.
    pub(crate) replies: usize,
    pub(crate) closes: bool,
}

/// Commands as clients send them, one per line, words separated by spaces; a line that starts with `>` goes inline, as it is.
fn goes_on(name: &'static str, replies: usize, lines: &str) -> Exchange {
    let requests = lines.lines().map(str::trim).filter(|line| !line.is_empty()).flat_map(|line| match line.strip_prefix('>') {
        Some(inline) => format!("{inline}\r\n").into_bytes(),
        None => encode(&line.split(' ').collect::<Vec<_>>()),
    });
    Exchange { name, requests: requests.collect(), replies, closes: false }
}

/// Bytes after which the server closes.
fn closes(name: &'static str, replies: usize, requests: &str) -> Exchange {
    Exchange { name, requests: requests.as_bytes().to_vec(), replies, closes: true }
}

pub(crate) fn all() -> Vec<Exchange> {
    let binary = [&encode(&[b"SET", &b"bin"[..], b"\r\n*3\r\n$3\r\n-ERR\r\n\0\xff"])[..], &encode(&["GETDEL", "bin"])].concat();
    let many: Vec<_> = (0..102).map(|key| format!("{{k}}{key}")).collect();
    let mut evalsha = vec!["EVALSHA", "ffffffffffffffffffffffffffffffffffffffff", "102"];
    evalsha.extend(many.iter().map(String::as_str));
    vec![
        goes_on("ping", 3, "PING\nping hello\nECHO x"),
        goes_on("strings", 4, "SET s value\nGET s\nGET nothing\nDEL s"),
        Exchange { name: "binary", requests: binary, replies: 2, closes: false },
        goes_on("numbers", 4, "INCR n\nINCRBY n 41\nGET n\nDEL n"),
        goes_on("collections", 5, "RPUSH l a b c\nLRANGE l 0 -1\nLRANGE nothing 0 -1\nZADD z 1.5 m\nDEL l z"),
        goes_on("arity", 3, "GET\nSET a\nPING"),
        goes_on("unknown", 2, "NOSUCH a b\nPING"),
        goes_on("wrong type", 3, "SET w 1\nLPUSH w 2\nDEL w"),
        Exchange { name: "102 keys", requests: encode(&evalsha), replies: 1, closes: false },
        goes_on("script", 3, "EVAL return{1,'two',{3}} 0\nEVAL return{err='E!no'} 0\nEVAL return(redis.status_reply('fine')) 0"),
        goes_on("inline", 5, ">PING\n>echo one\n>  set  i  \"a b\\x41\\n\"  \n>GET i\n>DEL i"),
        goes_on("inline and multibulk", 4, ">PING\nPING\n>\n>PING 'x y'\nPING"),
        Exchange { name: "nothing asked", requests: b"*0\r\n\r\n*-1\r\nPING\n".to_vec(), replies: 1, closes: false },
        goes_on("transaction", 6, "MULTI\nSET t 1\nINCR t\nGET t\nDEL t\nEXEC"),
        goes_on("empty transaction", 2, "MULTI\nEXEC"),
        goes_on("discarded", 4, "MULTI\nSET t 1\nDISCARD\nGET t"),
        goes_on("aborted", 5, "MULTI\nNOSUCH\nMULTI\nSET t 1\nEXEC"),
        goes_on("misplaced", 3, "EXEC\nDISCARD\nPING"),
        goes_on("database in a transaction", 8, "MULTI\nSELECT 3\nSET t 1\nEXEC\nGET t\nDEL t\nSELECT 0\nGET t"),
        goes_on("inline transaction", 4, ">MULTI\n>SET t 1\nDEL t\n>EXEC"),
        goes_on("watch", 7, "SET w 1\nWATCH w\nGET w\nMULTI\nDEL w\nEXEC\nGET w"),
        goes_on("watch lost", 7, "SET w 1\nWATCH w\nINCR w\nMULTI\nGET w\nEXEC\nDEL w"),
        goes_on("watch dropped", 3, "WATCH w\nUNWATCH\nPING"),
        goes_on("databases", 6, "SELECT 3\nSET d three\nSELECT 0\nGET d\nSELECT 3\nDEL d").then("SELECT 0", 1),
        goes_on("no such database", 3, "SELECT 99\nSELECT x\nPING"),
        goes_on("resp3", 6, "HELLO 3\nHSET h f v\nHGETALL h\nGET nothing\nDEL h\nHELLO 2"),
        goes_on("resp3 shapes", 7, "HELLO 3\nSADD m x\nSMEMBERS m\nZADD m2 1.5 x\nZSCORE m2 x\nDEL m m2\nHELLO 2"),
        goes_on("no such protocol", 3, "HELLO 9\nHELLO x\nPING"),
        goes_on("names", 5, "CLIENT SETNAME me\nCLIENT GETNAME\nHELLO 2 SETNAME you\nCLIENT GETNAME\nRESET"),
        goes_on("a bad name", 2, "CLIENT NOSUCH\nPING"),
        goes_on("subscribe", 6, "SUBSCRIBE ch\nPING\nGET ch\nPSUBSCRIBE p*\nUNSUBSCRIBE ch\nPUNSUBSCRIBE p*"),
        goes_on("subscribe in resp3", 6, "HELLO 3\nSUBSCRIBE ch1 ch2\nPING\nUNSUBSCRIBE").then("HELLO 2", 1),
        goes_on("unsubscribe from nothing", 3, "UNSUBSCRIBE\nPUNSUBSCRIBE\nPING"),
        goes_on("publish", 2, "PUBLISH nobody hello\nPING"),
        goes_on("pops that find something", 5, "RPUSH q a b\nBLPOP q 0\nBRPOPLPUSH q r 0\nLPOP r\nLLEN q"),
        goes_on("reset", 4, "MULTI\nSET r 1\nRESET\nGET r"),
        goes_on("wait", 3, "SET x 1\nWAIT 0 0\nDEL x"),
        goes_on("scan", 2, "SCAN 0 COUNT 1000\nTYPE nothing"),
        closes("quit", 2, "*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nQUIT\r\n"),
        closes("inline quit", 1, "quit\r\n"),
        closes("no bulk", 2, "*1\r\n$4\r\nPING\r\n*1\r\nfoo\r\n"),
        closes("no count", 1, "*abc\r\n"),
        closes("negative length", 1, "*2\r\n$3\r\nGET\r\n$-5\r\n"),
        closes("no length", 1, "*2\r\n$3\r\nGET\r\n$x\r\n"),
        closes("too many", 1, "*2147483648\r\n"),
        closes("too long", 1, "*1\r\n$999999999999\r\n"),
        closes("unbalanced", 1, "SET a \"b\r\n"),
        closes("in a transaction", 3, "MULTI\r\nPING\r\n*1\r\n:1\r\n"),
    ]
}

impl Exchange {
    fn then(mut self, line: &str, replies: usize) -> Self {
        self.requests.extend(encode(&line.split(' ').collect::<Vec<_>>()));
        self.replies += replies;
        self
    }
}
