//! Requests that are about the client and not about the data: answered here where connections are shared.

use std::borrow::Cow;

use super::client::{Client, End};
use super::key::Key;
use super::pinned::reason;
use super::scan::is_alone;
use super::{Auth, answer};
use crate::error::{Error, Kind};
use crate::metrics::{PinReason, RefusalReason};
use crate::redis;
use crate::redis::class::{Class, Local};
use crate::redis::command::{Arguments, parse};
use crate::redis::frame::integer;
use crate::redis::gate;
use crate::redis::table::classify;

impl Client {
    /// Sees to the request at the front, nothing being owed before it: answers it, or gets the client a connection of its own for it.
    pub(super) async fn see_to_front(&mut self) -> Result<(), End> {
        if self.locked {
            return self.see_to_locked().await;
        }
        if self.answer_here().await? {
            return Ok(());
        }
        let Some((length, class)) = self.front else { return Ok(()) };
        let why = if self.mux.shares { reason(class) } else { PinReason::Session };
        match class {
            Class::Local(Local::Reset) if self.front_is_alone() => {
                self.take_front();
                self.outlet.deliver(b"+RESET\r\n");
                self.reset_state();
                Ok(())
            }
            Class::Local(Local::Auth | Local::Hello) if !self.input.get(..length).is_some_and(is_plain_hello) => {
                let frame = self.take_front();
                self.at_gate(&frame).await
            }
            Class::Local(local) if self.mux.shares => match local {
                Local::Select => self.select().await,
                Local::Hello => self.hello().await,
                // Not as it should be: the server has the words for it.
                _ => self.pin(why).await,
            },
            _ => self.pin(why).await,
        }
    }

    /// A request that grows too big to be kept until it is whole.
    pub(super) async fn pin_big(&mut self) -> Result<(), End> {
        if self.locked {
            return self.see_to_locked().await;
        }
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
            Class::Local(Local::Auth | Local::Hello) if !self.mux.auth.asks_server() => {
                let frame = self.input.get(..length).unwrap_or_default();
                // Whatever might hold a password that is none of the server's business stays here: also a HELLO that breaks off before its AUTH.
                if class == Class::Local(Local::Hello) && is_plain_hello(frame) {
                    return Ok(false);
                }
                let frame = self.take_front();
                self.at_gate(&frame).await?;
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

    async fn select(&mut self) -> Result<(), End> {
        let Some(database) = self.front.and_then(|(length, _)| database(self.input.get(..length)?)) else {
            return self.pin(PinReason::Once).await;
        };
        self.take_front();
        let key = Key { database, ..self.key.clone() };
        self.become_key(key, |_| answer::OK.into()).await.map(drop)
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
        key.resp3 = hello.version.map_or(key.resp3, |version| version == 3);
        let (resp3, id) = (key.resp3, self.mux.next_id());
        let name = hello.name.map(<[u8]>::to_vec);
        let became = self.become_key(key, move |server| server.reply(resp3, id)).await?;
        if let Some(name) = name.filter(|_| became) {
            self.name = name;
        }
        Ok(())
    }

    /// Whether the request at the front is a command without arguments.
    pub(super) fn front_is_alone(&self) -> bool {
        self.front.and_then(|(length, _)| self.input.get(..length)).is_some_and(is_alone)
    }

    /// Uses connections of another key from now on, if one can be had, and says so. False: it has been told why not.
    async fn become_key(&mut self, key: Key, reply: impl FnOnce(&super::backend::Hello) -> Vec<u8>) -> Result<bool, End> {
        match self.mux.lanes.lane(&key).await {
            Ok(lane) => {
                self.key = key;
                self.forget_lane();
                self.outlet.deliver(&reply(&lane.hello));
                Ok(true)
            }
            Err(error) => {
                if self.heed_refusal(&error, 1)? {
                    self.refuse_unknown()?;
                    return Ok(false);
                }
                self.refuse_for(&error, 1);
                // The server has said no, and the client knows what it has. But after an error of ours what it has sent behind this request
                // would be carried out in the state it wanted to leave: SET in the wrong database.
                if error.reply.is_some() { Ok(false) } else { Err(End::UpstreamBroke(error)) }
            }
        }
    }

    /// As on a new connection, the login included.
    pub(super) fn reset_state(&mut self) {
        self.key = self.mux.home.clone();
        self.name = Vec::new();
        self.forget_lane();
        if matches!(self.mux.auth, Auth::Local(_)) || Self::starts_locked(&self.mux) {
            self.lock();
        }
    }

    fn say(&self, reply: &[u8]) -> Result<(), End> {
        self.outlet.deliver(reply);
        Ok(())
    }

    /// To a client that the server wants to log in first.
    fn refuse_unknown(&mut self) -> Result<(), End> {
        self.asked = true;
        self.refuse(RefusalReason::Auth, gate::NO_AUTH);
        Ok(())
    }

    pub(super) fn refuse(&self, why: RefusalReason, reply: &[u8]) {
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

/// A HELLO with nothing in it that could be a password, as far as this program can read it.
pub(super) fn is_plain_hello(frame: &[u8]) -> bool {
    let Ok(arguments) = parse(frame) else { return false };
    let options: Vec<&[u8]> = arguments.iter().skip(1).map(|argument| &**argument).collect();
    let (hello, error) = gate::hello_options(&options);
    let is_hello = arguments.first().is_some_and(|name| name.eq_ignore_ascii_case(b"hello"));
    is_hello && error.is_none() && hello.auth.is_empty()
}

/// The version and the name that a HELLO asks for.
pub(super) fn hello_wish(frame: &[u8]) -> (Option<u8>, Option<Vec<u8>>) {
    let arguments = parse(frame).unwrap_or_default();
    let options: Vec<&[u8]> = arguments.iter().skip(1).map(|argument| &**argument).collect();
    let (hello, _) = gate::hello_options(&options);
    (hello.version, hello.name.map(<[u8]>::to_vec))
}

/// The number in `SELECT n`, if it is one that a server could have.
pub(super) fn database(frame: &[u8]) -> Option<u32> {
    match parse(frame).ok()?.as_slice() {
        [_, number] => integer(number).and_then(|number| u32::try_from(number).ok()),
        _ => None,
    }
}

pub(super) fn hostile() -> End {
    End::Protocol(Error::client(Kind::Protocol, "HTTP request on a Redis port; closed without an answer"))
}
