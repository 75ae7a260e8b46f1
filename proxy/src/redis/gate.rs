//! What a client hears until it has logged in: `client_auth: password`, in Redis' own words. `[pure]`

use std::borrow::Cow;

use super::command::encode;
use super::frame::integer;

/// What to do about one command of a client that has not logged in.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Send this and read on.
    Say(Cow<'static, [u8]>),
    /// The password is wrong: wait, send [`WRONG_PASSWORD`], read on.
    Wrong,
    /// QUIT: send this and close.
    Quit(&'static [u8]),
    /// An HTTP request: close without a word, as Redis does, so that a browser cannot be made to talk to it.
    Http,
    /// The client is in.
    Welcome {
        /// For the client, now; may be empty.
        reply: Cow<'static, [u8]>,
        /// For the server, ahead of what the client sends next; may be empty. It will answer it.
        forward: Vec<u8>,
    },
}

/// The reply to a wrong password.
pub const WRONG_PASSWORD: &[u8] = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n";
/// The reply to every command that needs a login.
pub const NO_AUTH: &[u8] = b"-NOAUTH Authentication required.\r\n";
const HELLO_NO_AUTH: &[u8] = b"-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> \
    option can be used to authenticate the client and select the RESP protocol version at the same time\r\n";

/// Judges one command; `arguments` as [`super::command::parse`] gives them. `check` compares a password, in constant time.
///
/// Any user name is accepted, since there is one password. Commands unknown to Redis get NOAUTH too: there is no table of them here.
pub fn answer(arguments: &[Cow<'_, [u8]>], check: impl Fn(&[u8]) -> bool) -> Answer {
    let arguments: Vec<&[u8]> = arguments.iter().map(|argument| &**argument).collect();
    let [name, options @ ..] = arguments.as_slice() else { return say(NO_AUTH) };
    let is = |command: &str| name.eq_ignore_ascii_case(command.as_bytes());
    if is("auth") {
        auth(options, check)
    } else if is("hello") {
        hello(options, check)
    } else if is("quit") {
        Answer::Quit(b"+OK\r\n")
    } else if is("reset") && options.is_empty() {
        say(b"+RESET\r\n")
    } else if is("reset") {
        say(b"-ERR wrong number of arguments for 'reset' command\r\n")
    } else if is("post") || is("host:") {
        Answer::Http
    } else {
        say(NO_AUTH)
    }
}

/// The logins that [`answer`] checks in this command, in their order: user, if one is named, and password. For whoever has to ask another
/// first: if all are right, `answer` with a `check` that takes everything says what follows.
#[must_use]
pub fn logins<'a>(arguments: &'a [Cow<'_, [u8]>]) -> Vec<(Option<&'a [u8]>, &'a [u8])> {
    let arguments: Vec<&[u8]> = arguments.iter().map(|argument| &**argument).collect();
    let [name, options @ ..] = arguments.as_slice() else { return Vec::new() };
    match options {
        [password] if name.eq_ignore_ascii_case(b"auth") => vec![(None, *password)],
        [user, password] if name.eq_ignore_ascii_case(b"auth") => vec![(Some(*user), *password)],
        _ if name.eq_ignore_ascii_case(b"hello") => {
            hello_options(options).0.auth.into_iter().map(|(user, password)| (Some(user), password)).collect()
        }
        _ => Vec::new(),
    }
}

fn say(text: &'static [u8]) -> Answer {
    Answer::Say(Cow::Borrowed(text))
}

fn auth(options: &[&[u8]], check: impl Fn(&[u8]) -> bool) -> Answer {
    match options {
        [] => say(b"-ERR wrong number of arguments for 'auth' command\r\n"),
        [password] | [_, password] if check(password) => Answer::Welcome { reply: Cow::Borrowed(b"+OK\r\n"), forward: Vec::new() },
        [_] | [_, _] => Answer::Wrong,
        _ => say(b"-ERR syntax error\r\n"),
    }
}

/// HELLO takes its options one after another, as Redis does: after a right AUTH the client is in, even when a later option is wrong.
fn hello(options: &[&[u8]], check: impl Fn(&[u8]) -> bool) -> Answer {
    let (hello, error) = hello_options(options);
    let Some(version) = hello.version else { return Answer::Say(error.unwrap_or(Cow::Borrowed(HELLO_NO_AUTH))) };
    if hello.auth.iter().any(|(_, password)| !check(password)) {
        return Answer::Wrong;
    }
    let welcome = !hello.auth.is_empty();
    match (welcome, error) {
        (true, Some(reply)) => Answer::Welcome { reply, forward: Vec::new() },
        (true, None) => Answer::Welcome { reply: Cow::Borrowed(b""), forward: encode_hello(version, hello.name) },
        (false, Some(reply)) => Answer::Say(reply),
        (false, None) => say(HELLO_NO_AUTH),
    }
}

/// What a HELLO asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello<'a> {
    /// 2 or 3; `None`: no change.
    pub version: Option<u8>,
    /// User and password, of each AUTH: Redis takes them one after another.
    pub auth: Vec<(&'a [u8], &'a [u8])>,
    /// SETNAME.
    pub name: Option<&'a [u8]>,
}

/// Reads HELLO's options up to the first that is wrong, and what Redis says about that one.
#[must_use]
pub fn hello_options<'a>(options: &[&'a [u8]]) -> (Hello<'a>, Option<Cow<'static, [u8]>>) {
    let mut hello = Hello::default();
    let [version, options @ ..] = options else { return (hello, None) };
    hello.version = match integer(version) {
        Some(2) => Some(2),
        Some(3) => Some(3),
        Some(_) => return (hello, Some(Cow::Borrowed(b"-NOPROTO unsupported protocol version\r\n"))),
        None => return (hello, Some(Cow::Borrowed(b"-ERR Protocol version is not an integer or out of range\r\n"))),
    };
    let mut rest = options;
    let error: Option<Cow<'static, [u8]>> = loop {
        rest = match rest {
            [] => break None,
            [option, user, password, after @ ..] if option.eq_ignore_ascii_case(b"auth") => {
                hello.auth.push((*user, *password));
                after
            }
            [option, given, after @ ..] if option.eq_ignore_ascii_case(b"setname") => {
                if !is_name(given) {
                    break Some(Cow::Borrowed(BAD_NAME));
                }
                hello.name = Some(*given);
                after
            }
            [option, ..] => break Some(Cow::Owned(bad_option(option))),
        };
    };
    (hello, error)
}

/// A HELLO without a password.
#[must_use]
pub fn encode_hello(version: u8, name: Option<&[u8]>) -> Vec<u8> {
    let version = [b'0' + version];
    match name {
        Some(name) => encode(&[b"HELLO", &version, b"SETNAME", name]),
        None => encode(&[b"HELLO", &version]),
    }
}

/// What Redis says to a client name that [`is_name`] refuses.
pub const BAD_NAME: &[u8] = b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n";

/// Whether Redis would take `name` for CLIENT SETNAME or HELLO SETNAME.
#[must_use]
pub fn is_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// Redis shows the option up to a zero byte, with blanks for line ends.
fn bad_option(option: &[u8]) -> Vec<u8> {
    let mut reply = b"-ERR Syntax error in HELLO option '".to_vec();
    let shown = option.iter().take_while(|&&byte| byte != 0);
    reply.extend(shown.map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    reply.extend_from_slice(b"'\r\n");
    reply
}

#[cfg(test)]
mod tests;
