//! Who a client is: AUTH, HELLO with AUTH, and what is said to a client that has not logged in.
//!
//! A client is *locked* while it has to log in first: where a local password is asked for, after RESET; where the server judges, until it is
//! known that the server serves anybody. Until then it is held to the limits that Redis has for such clients, and no connection is opened for
//! anything it says but a login. In all modes a login is taken out of what it came in: a local password never goes to the server, and a HELLO
//! goes on without it. Only on a connection of its own, where the server judges, a client tells the server itself.

use bytes::BytesMut;
use secrecy::SecretSlice;
use tokio::time::sleep;

use super::client::{Client, End};
use super::key::{Identity, Key, Login};
use super::local::hostile;
use super::verdicts::{WRONG_PASSWORD_DELAY, is_refused};
use super::{Auth, answer};
use crate::error::{Error, Kind};
use crate::metrics::RefusalReason;
use crate::redis::command::parse;
use crate::redis::frame::RequestError;
use crate::redis::gate::{self, Answer};

/// The connection is closed after so many wrong passwords.
const MAX_WRONG_PASSWORDS: u32 = 10;

impl Client {
    /// Whether a client with nothing but its home key has to log in first, as far as it is known.
    pub(super) fn starts_locked(mux: &super::Mux) -> bool {
        mux.auth.asks_server() && !mux.verdicts.welcomes_anybody()
    }

    /// Sees to what a locked client has sent: the request at the front, or what is no request, or gets too big for one.
    pub(super) async fn see_to_locked(&mut self) -> Result<(), End> {
        let whole = self.front.filter(|_| self.broken.is_none()).and_then(|(length, _)| self.input.get(..length));
        let logs_in = whole.and_then(|frame| parse(frame).ok()).is_some_and(|arguments| !gate::logins(&arguments).is_empty());
        let is_whole = whole.is_some();
        if self.mux.auth.asks_server() && !logs_in {
            match self.mux.verdicts.anybody().await {
                Ok(true) => {
                    // What it has sent is looked at again, with other eyes.
                    self.unlock();
                    return Ok(());
                }
                Ok(false) => {}
                Err(error) => return self.no_connection(&error),
            }
        }
        if !is_whole {
            let error = self.broken.unwrap_or(RequestError::UnauthenticatedLength);
            self.asked = true;
            return Err(self.breach(error));
        }
        let frame = self.take_front();
        self.at_gate(&frame).await
    }

    /// A request that has to do with who the client is, or any of a locked client.
    pub(super) async fn at_gate(&mut self, frame: &[u8]) -> Result<(), End> {
        let arguments = match parse(frame) {
            Ok(arguments) => arguments,
            Err(error) => return Err(self.breach(error)),
        };
        let resp3 = arguments.get(1).is_some_and(|version| arguments.len() > 3 && **version == *b"3");
        let mut identity = self.key.identity.clone();
        for (user, password) in gate::logins(&arguments) {
            match self.judge(user, password, resp3).await {
                Ok(new) => identity = new,
                Err(error) => {
                    return match &error.reply {
                        Some(reply) => self.wrong_password(reply).await,
                        None => {
                            self.refuse_for(&error, 1);
                            Ok(())
                        }
                    };
                }
            }
        }
        match gate::answer(&arguments, |_| true) {
            Answer::Say(reply) => {
                if self.locked && reply.starts_with(b"+RESET") {
                    (self.key, self.name) = (self.mux.home.clone(), Vec::new());
                }
                if reply.starts_with(b"-NOAUTH") {
                    self.asked = true;
                    self.refuse(RefusalReason::Auth, &reply);
                } else {
                    self.outlet.deliver(&reply);
                }
                Ok(())
            }
            Answer::Quit(reply) => {
                self.outlet.deliver(reply);
                Err(End::Left)
            }
            Answer::Http => Err(hostile()),
            // It was judged above.
            Answer::Wrong => Ok(()),
            Answer::Welcome { reply, forward } => {
                self.key.identity = identity;
                self.forget_lane();
                self.unlock();
                self.outlet.deliver(&reply);
                if !forward.is_empty() {
                    // HELLO without the password: what is left of it is for who would have answered one without.
                    let mut input = BytesMut::from(forward.as_slice());
                    input.extend_from_slice(&self.input);
                    self.input = input;
                }
                Ok(())
            }
        }
    }

    /// Who the client is with this login. An error with a reply: nobody.
    async fn judge(&self, user: Option<&[u8]>, password: &[u8], resp3: bool) -> Result<Identity, Error> {
        let refused = |words: &[u8]| Err(Error::client(Kind::Login, "wrong password").replying(words));
        match &self.mux.auth {
            Auth::Local(check) if check(password) => Ok(self.key.identity.clone()),
            Auth::Local(_) => refused(gate::WRONG_PASSWORD),
            // As a server without a password: its default user takes any.
            Auth::Open => match user {
                None => refused(answer::NO_PASSWORD),
                Some(b"default") => Ok(self.key.identity.clone()),
                Some(_) => refused(gate::WRONG_PASSWORD),
            },
            Auth::Server => {
                let secret = |bytes: &[u8]| SecretSlice::from(bytes.to_vec());
                let identity = Identity::Client(std::sync::Arc::new(Login::new(user.map(secret), secret(password))));
                let key = Key { identity: identity.clone(), resp3, ..self.mux.home.clone() };
                self.mux.verdicts.ask(&key).await.map(|()| identity)
            }
        }
    }

    /// A guesser has few tries, and each takes a while.
    async fn wrong_password(&mut self, reply: &[u8]) -> Result<(), End> {
        sleep(WRONG_PASSWORD_DELAY).await;
        self.refuse(RefusalReason::Auth, reply);
        self.count_wrong()
    }

    /// The server has refused a login that the client put to it on a connection of its own, and the client has heard it: the delay comes after
    /// the answer, and nothing more is sent on until it is over.
    pub(super) async fn wrong_on_its_own(&mut self) -> Result<(), End> {
        self.mux.metrics.refusals.of(RefusalReason::Auth).inc();
        sleep(WRONG_PASSWORD_DELAY).await;
        self.count_wrong()
    }

    fn count_wrong(&mut self) -> Result<(), End> {
        self.wrong += 1;
        if self.wrong < MAX_WRONG_PASSWORDS { Ok(()) } else { Err(self.never_logged_in()) }
    }

    fn breach(&self, error: RequestError) -> End {
        self.refuse(RefusalReason::Protocol, &error.reply());
        End::Protocol(Error::client(Kind::Protocol, format!("{error}; it was told so")))
    }

    /// There is no connection for what the client wants, because of who it is: true when that has been seen to and the request is still there, to
    /// be looked at again.
    ///
    /// # Errors
    /// The client's login is no longer right: it has heard so, in place of the replies to `requests`, and is closed.
    pub(super) fn heed_refusal(&mut self, error: &Error, requests: usize) -> Result<bool, End> {
        if !is_refused(error) {
            return Ok(false);
        }
        self.mux.verdicts.heed(&self.key.identity, error);
        if self.key.identity != Identity::Proxy {
            self.refuse_for(error, requests);
            return Err(End::Protocol(Error::client(Kind::Login, "the server no longer takes the client's login")));
        }
        if self.mux.auth.asks_server() {
            self.lock();
            return Ok(true);
        }
        Ok(false)
    }

    /// The client goes by itself. That is an error when it would have liked to stay: somebody has to set a password right.
    pub(super) fn leaves(&self, end: End) -> End {
        match end {
            End::Left if self.locked && (self.wrong > 0 || self.asked) => self.never_logged_in(),
            end => end,
        }
    }

    fn never_logged_in(&self) -> End {
        let whose = if self.mux.auth.asks_server() { "a password that the server takes" } else { "this listener's client password" };
        let why = match self.wrong {
            0 => format!("the client sent no password; give it {whose}"),
            1 => format!("wrong password; the client must use {whose}"),
            n => format!("{n} wrong passwords; the client must use {whose}"),
        };
        End::Protocol(Error::client(Kind::Login, why))
    }
}
