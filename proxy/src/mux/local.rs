//! Requests that are about the client and not about the data: answered here where connections are shared.

use std::borrow::Cow;
use std::time::Duration;

use bytes::BytesMut;
use secrecy::SecretSlice;
use tokio::time::{sleep, timeout};

use super::client::{Client, End};
use super::key::{Identity, Key, Login};
use super::pinned::reason;
use super::{Auth, answer};
use crate::error::{Error, Kind};
use crate::metrics::{PinReason, RefusalReason};
use crate::redis::class::{Class, Local};
use crate::redis::command::{Arguments, parse};
use crate::redis::frame::integer;
use crate::redis::gate::{self, Answer};
use crate::redis::table::classify;
use crate::redis::{self, Greeting};

/// How long a wrong password is left without an answer, and how many a client has.
const WRONG_PASSWORD_DELAY: Duration = Duration::from_millis(200);
const MAX_WRONG_PASSWORDS: u32 = 10;

impl Client {
    /// Sees to the request at the front, nothing being owed before it: answers it, or gets the client a connection of its own for it.
    pub(super) async fn see_to_front(&mut self) -> Result<(), End> {
        if self.answer_here().await? {
            return Ok(());
        }
        let Some((_, class)) = self.front else { return Ok(()) };
        let why = if self.mux.shares { reason(class) } else { PinReason::Session };
        match class {
            Class::Local(Local::Reset) => {
                self.take_front();
                self.outlet.deliver(b"+RESET\r\n");
                self.reset_state();
                Ok(())
            }
            Class::Local(local) if self.mux.shares => match local {
                Local::Select => self.select().await,
                Local::Hello => self.hello().await,
                Local::Auth => self.auth_by_server().await,
                // Not as it should be: the server has the words for it.
                _ => self.pin(why).await,
            },
            _ => self.pin(why).await,
        }
    }

    /// A request that grows too big to be kept until it is whole.
    pub(super) async fn pin_big(&mut self) -> Result<(), End> {
        match classify(&self.input) {
            Some(Class::Read | Class::Write | Class::Blocking | Class::Once | Class::Unknown | Class::Transaction(_)) => {
                self.pin(if self.mux.shares { PinReason::BigRequest } else { PinReason::Session }).await
            }
            Some(Class::Hostile) => Err(hostile()),
            _ => {
                self.outlet.deliver(b"-ERR Protocol error: too big mbulk count string\r\n");
                Err(End::Protocol(Error::client(Kind::Protocol, "a command for the proxy itself of more than 64 KiB")))
            }
        }
    }

    /// Answers the request at the front if that takes no server. False: it is still there.
    pub(super) async fn answer_here(&mut self) -> Result<bool, End> {
        if let Some(error) = self.broken {
            self.refuse(RefusalReason::Protocol, &error.reply());
            return Err(End::Protocol(Error::client(Kind::Protocol, format!("{error}; it was told so"))));
        }
        let Some((length, class)) = self.front else { return Ok(true) };
        let shares = self.mux.shares;
        match class {
            Class::Hostile => return Err(hostile()),
            Class::Forbidden => {
                self.take_front();
                self.refuse(RefusalReason::Forbidden, answer::FORBIDDEN);
            }
            Class::Local(Local::Quit) => {
                self.take_front();
                self.outlet.deliver(answer::OK);
                return Err(End::Left);
            }
            Class::Local(Local::Auth) if !self.mux.auth.asks_server() => {
                let frame = self.take_front();
                self.auth(&frame).await?;
            }
            Class::Local(local @ (Local::SetName | Local::GetName | Local::SetInfo | Local::MaintNotifications)) if shares => {
                let frame = self.input.get(..length).unwrap_or_default().to_vec();
                let Some(reply) = parse(&frame).ok().and_then(|arguments| self.about_itself(local, &arguments)) else { return Ok(false) };
                self.take_front();
                self.outlet.deliver(&reply);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// CLIENT SETNAME and its kind. `None`: malformed, the server has the words for it.
    fn about_itself(&mut self, local: Local, arguments: &Arguments<'_>) -> Option<Cow<'static, [u8]>> {
        let arguments: Vec<&[u8]> = arguments.iter().map(|argument| &**argument).collect();
        Some(match (local, arguments.as_slice()) {
            (Local::SetName, [_, _, name]) if gate::is_name(name) => {
                self.name = name.to_vec();
                Cow::Borrowed(answer::OK)
            }
            (Local::SetName, [_, _, _]) => Cow::Borrowed(gate::BAD_NAME),
            (Local::GetName, [_, _]) => Cow::Owned(answer::name(&self.name, self.key.resp3)),
            (Local::SetInfo, [_, _, attribute, value]) => match answer::set_info(attribute, value) {
                Ok(()) => Cow::Borrowed(answer::OK),
                Err(reply) => Cow::Owned(reply),
            },
            (Local::MaintNotifications, [_, subcommand, ..]) => Cow::Owned(answer::unknown_subcommand(subcommand)),
            _ => return None,
        })
    }

    async fn auth(&mut self, frame: &[u8]) -> Result<(), End> {
        let arguments = match parse(frame) {
            Ok(arguments) => arguments,
            Err(error) => {
                self.refuse(RefusalReason::Protocol, &error.reply());
                return Err(End::Protocol(Error::client(Kind::Protocol, error.to_string())));
            }
        };
        let answer = match &self.mux.auth {
            Auth::Local(check) => gate::answer(&arguments, &**check),
            Auth::Open | Auth::Server => {
                let options: Vec<&[u8]> = arguments.iter().skip(1).map(|argument| &**argument).collect();
                Answer::Say(answer::open_auth(&options))
            }
        };
        match answer {
            Answer::Wrong => self.wrong_password(gate::WRONG_PASSWORD).await,
            Answer::Say(reply) | Answer::Welcome { reply, .. } => {
                self.outlet.deliver(&reply);
                Ok(())
            }
            Answer::Quit(_) | Answer::Http => Ok(()),
        }
    }

    /// A guesser has few tries, and each takes a while.
    async fn wrong_password(&mut self, reply: &[u8]) -> Result<(), End> {
        sleep(WRONG_PASSWORD_DELAY).await;
        self.refuse(RefusalReason::Auth, reply);
        self.wrong += 1;
        if self.wrong < MAX_WRONG_PASSWORDS {
            return Ok(());
        }
        Err(End::Protocol(Error::client(Kind::Login, format!("{} wrong passwords", self.wrong))))
    }

    /// AUTH where the server judges: a connection with this login can be had, or not.
    async fn auth_by_server(&mut self) -> Result<(), End> {
        let frame = self.take_front();
        let arguments = parse(&frame).unwrap_or_default();
        let login = match arguments.as_slice() {
            [_, password] => login(None, password),
            [_, user, password] => login(Some(user), password),
            [_] => return self.say(b"-ERR wrong number of arguments for 'auth' command\r\n"),
            _ => return self.say(b"-ERR syntax error\r\n"),
        };
        let key = Key { identity: login, ..self.key.clone() };
        self.become_key(key, |_| answer::OK.into()).await
    }

    async fn select(&mut self) -> Result<(), End> {
        let Some(database) = self.front.and_then(|(length, _)| database(self.input.get(..length)?)) else {
            return self.pin(PinReason::Once).await;
        };
        self.take_front();
        let key = Key { database, ..self.key.clone() };
        self.become_key(key, |_| answer::OK.into()).await
    }

    async fn hello(&mut self) -> Result<(), End> {
        let frame = self.take_front();
        let Ok(arguments) = parse(&frame) else { return self.say(b"-ERR syntax error\r\n") };
        let options: Vec<&[u8]> = arguments.iter().skip(1).map(|argument| &**argument).collect();
        let (hello, error) = gate::hello_options(&options);
        if let Some(error) = error {
            return self.say(&error);
        }
        let mut key = self.key.clone();
        for (user, password) in hello.auth {
            match &self.mux.auth {
                Auth::Server => key.identity = login(Some(user), password),
                _ if self.is_right(user, password) => {}
                _ => return self.wrong_password(gate::WRONG_PASSWORD).await,
            }
        }
        key.resp3 = hello.version.map_or(key.resp3, |version| version == 3);
        let (resp3, id) = (key.resp3, self.mux.next_id());
        let name = hello.name.map(<[u8]>::to_vec);
        self.become_key(key, move |server| server.reply(resp3, id)).await?;
        if let Some(name) = name
            && self.key.resp3 == resp3
        {
            self.name = name;
        }
        Ok(())
    }

    /// HELLO of a client with its own connection: without the password that only the proxy knows. `None`: it has been answered.
    pub(super) async fn hello_for_server(&mut self) -> Result<Option<(Option<u8>, BytesMut)>, End> {
        let frame = self.take_front();
        let arguments = parse(&frame).unwrap_or_default();
        let options: Vec<&[u8]> = arguments.iter().skip(1).map(|argument| &**argument).collect();
        let (hello, error) = gate::hello_options(&options);
        if hello.auth.is_empty() || self.mux.auth.asks_server() {
            // The server has the words for what is wrong with it.
            return Ok(Some((hello.version.filter(|_| error.is_none()), frame)));
        }
        if !hello.auth.iter().all(|(user, password)| self.is_right(user, password)) {
            return self.wrong_password(gate::WRONG_PASSWORD).await.map(|()| None);
        }
        if let Some(error) = error {
            return self.say(&error).map(|()| None);
        }
        let version = hello.version.unwrap_or(2);
        Ok(Some((Some(version), gate::encode_hello(version, hello.name).as_slice().into())))
    }

    /// Whether the client may use what it uses; where nothing is asked of it, as a server without a password would say.
    fn is_right(&self, user: &[u8], password: &[u8]) -> bool {
        match &self.mux.auth {
            Auth::Local(check) => check(password),
            Auth::Open | Auth::Server => user == b"default",
        }
    }

    /// Uses connections of another key from now on, if one can be had, and says so.
    async fn become_key(&mut self, key: Key, reply: impl FnOnce(&super::backend::Hello) -> Vec<u8>) -> Result<(), End> {
        match self.mux.lanes.lane(&key).await {
            Ok(lane) => {
                self.key = key;
                self.forget_lane();
                self.outlet.deliver(&reply(&lane.hello));
                Ok(())
            }
            Err(error) => match &error.reply {
                Some(reply) if key.identity != self.key.identity => self.wrong_password(reply).await,
                _ => {
                    self.refuse_for(&error, 1);
                    Ok(())
                }
            },
        }
    }

    /// As on a new connection, the login included.
    pub(super) fn reset_state(&mut self) {
        self.key = self.mux.home.clone();
        self.name = Vec::new();
        self.locked = matches!(self.mux.auth, Auth::Local(_));
        self.forget_lane();
    }

    /// Lets a client log in again that has said RESET.
    pub(super) async fn log_in_again(&mut self) -> Result<(), End> {
        let Auth::Local(check) = &self.mux.auth else { return Ok(()) };
        let Some((mut stream, unsent)) = self.outlet.take() else { return Ok(()) };
        let limit = self.mux.listener.upstream.connect_timeout;
        let greeting = timeout(limit, async {
            use tokio::io::AsyncWriteExt as _;
            stream.write_all(&unsent).await.map_err(|error| Error::io(crate::error::Side::Client, &error))?;
            redis::authenticate(&mut stream, std::mem::take(&mut self.input), &**check).await
        });
        let greeting = greeting.await;
        self.outlet.put_back(stream);
        match greeting {
            Ok(Ok(Greeting::Welcome { forward })) => {
                self.input = forward.as_slice().into();
                self.locked = false;
                Ok(())
            }
            Ok(Ok(Greeting::Left)) => Err(End::Left),
            Ok(Err(error)) => Err(End::Protocol(error)),
            Err(_) => Err(End::Protocol(Error::client(Kind::Timeout, "the client did not log in again in time"))),
        }
    }

    fn say(&self, reply: &[u8]) -> Result<(), End> {
        self.outlet.deliver(reply);
        Ok(())
    }

    fn refuse(&self, why: RefusalReason, reply: &[u8]) {
        self.mux.metrics.refusals.of(why).inc();
        self.outlet.deliver(reply);
    }

    /// So many requests cannot be served.
    pub(super) fn refuse_for(&self, error: &Error, requests: usize) {
        let why = match (error.kind, &error.reply) {
            (_, Some(_)) => RefusalReason::Upstream,
            (Kind::Timeout, None) => RefusalReason::Timeout,
            _ => RefusalReason::Upstream,
        };
        let reply = redis::refusal(error);
        (0..requests).for_each(|_| self.refuse(why, &reply));
    }
}

/// The number in `SELECT n`, if it is one that a server could have.
pub(super) fn database(frame: &[u8]) -> Option<u32> {
    match parse(frame).ok()?.as_slice() {
        [_, number] => integer(number).and_then(|number| u32::try_from(number).ok()),
        _ => None,
    }
}

fn login(user: Option<&[u8]>, password: &[u8]) -> Identity {
    let secret = |bytes: &[u8]| SecretSlice::from(bytes.to_vec());
    Identity::Client(std::sync::Arc::new(Login::new(user.map(secret), secret(password))))
}

fn hostile() -> End {
    End::Protocol(Error::client(Kind::Protocol, "HTTP request on a Redis port; closed without an answer"))
}
