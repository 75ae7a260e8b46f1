//! Tables of commands and answers. That the texts are the server's own is shown in `server_tests`.

use super::*;
use crate::redis::command::parse;

fn judge(line: &str) -> Answer {
    let line = format!("{line}\r\n");
    answer(&parse(line.as_bytes()).unwrap(), |password| password == b"sesame")
}

fn welcome(reply: &'static str, forward: &[&[u8]]) -> Answer {
    let forward = if forward.is_empty() { Vec::new() } else { encode(forward) };
    Answer::Welcome { reply: Cow::Borrowed(reply.as_bytes()), forward }
}

#[test]
fn auth_lets_in_whoever_knows_the_password() {
    for line in ["AUTH sesame", "auth anyone sesame", "Auth '' sesame"] {
        assert_eq!(judge(line), welcome("+OK\r\n", &[]), "{line}");
    }
    for line in ["AUTH open", "AUTH sesame open", "AUTH ''", "AUTH sesame ''", "AUTH SESAME"] {
        assert_eq!(judge(line), Answer::Wrong, "{line}");
    }
    assert_eq!(judge("AUTH u sesame x"), say(b"-ERR syntax error\r\n"));
}

#[test]
fn hello_is_passed_on_without_its_password() {
    assert_eq!(judge("HELLO 3 AUTH u sesame"), welcome("", &[b"HELLO", b"3"]));
    assert_eq!(judge("hello 2 setname n auth u sesame"), welcome("", &[b"HELLO", b"2", b"SETNAME", b"n"]));
    assert_eq!(judge("HELLO 3 AUTH u sesame SETNAME a SETNAME b"), welcome("", &[b"HELLO", b"3", b"SETNAME", b"b"]));
    assert_eq!(judge("HELLO 3 AUTH u open"), Answer::Wrong);
    assert_eq!(judge("HELLO 3 AUTH u sesame AUTH u open"), Answer::Wrong);
    // In, though the rest of the command is wrong: nothing is forwarded.
    assert_eq!(judge("HELLO 3 AUTH u sesame NOW"), welcome("-ERR Syntax error in HELLO option 'NOW'\r\n", &[]));
    assert_eq!(judge("HELLO 3"), say(HELLO_NO_AUTH));
    assert_eq!(judge("HELLO 3 AUTH sesame"), say(b"-ERR Syntax error in HELLO option 'AUTH'\r\n"));
}

#[test]
fn a_bad_option_cannot_write_replies() {
    let arguments = [&b"HELLO"[..], b"3", b"x\r\n+OK\0y"].map(Cow::Borrowed);
    assert_eq!(answer(&arguments, |_| true), say(b"-ERR Syntax error in HELLO option 'x  +OK'\r\n"));
}

#[test]
fn nothing_else_passes() {
    for line in ["GET k", "SUBSCRIBE c", "CLIENT SETNAME x", "''", "AUTHX sesame", "SYNC", "nonsense"] {
        assert_eq!(judge(line), say(NO_AUTH), "{line}");
    }
    assert_eq!(answer(&[], |_| true), say(NO_AUTH));
    assert_eq!(judge("POST / HTTP/1.1"), Answer::Http);
    assert_eq!(judge("Host: x"), Answer::Http);
}
