//! From "the password is right" to ReadyForQuery: a client hears what a session of its own would begin with.
//!
//! What it asks for in its StartupMessage (a time zone, a search path…) is put on a connection once, by the server's own rules; what the server
//! reports then is what the client hears, and what its connections are brought to from then on. Clients that ask for the same share the
//! answer, so that most logins need no server at all.

pub mod wishes;

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

use self::wishes::Wishes;
use super::clients::Facts;
use super::exchange::set_config;
use super::{Badge, Broker, Key, Link, Params};
use crate::error::{Error, Kind, Result, Side};
use crate::postgres::settings::{self, Outcome};
use crate::postgres::{SqlState, Startup, message, refuse, reply};
use crate::stream::Stream;

/// Answers that are kept, over all databases. A client can make up to 10 KB of wishes.
const MOST_ANSWERS: usize = 1000;

/// A client that has been greeted.
pub struct Guest {
    /// Which connections will do for it.
    pub key: Key,
    /// The settings that it begins with, and goes back to.
    pub defaults: Rc<Params>,
    /// Its presence, for others to see.
    pub badge: Badge,
}

/// What clients were told, for the next that ask for the same. One worker's.
pub struct Greetings {
    known: RefCell<HashMap<Key, Known>>,
    moved: RefCell<watch::Receiver<u64>>,
}

/// Of one database.
struct Known {
    /// The settings of a new connection.
    base: Rc<Params>,
    by_wishes: HashMap<Wishes, Rc<Params>>,
}

/// Greets a client that has proved who it is: takes a connection if that is needed, and tells the client everything up to ReadyForQuery in one
/// write. `None`: the client left.
///
/// After an error, or when the future is dropped, the connection is of no use; the client has been told.
///
/// # Errors
/// The client asks for what cannot be had, or what the server refuses; or there was no connection to ask it.
pub async fn greet(client: &mut Stream, startup: &Startup, peer: Option<SocketAddr>, broker: &Rc<Broker>) -> Result<Option<Guest>> {
    let wishes = match Wishes::of(startup) {
        Ok(wishes) => wishes,
        Err(refusal) => {
            refuse::say(client, &message::fatal(refusal.code, &refusal.text)).await;
            return Err(refused_client(refusal.code));
        }
    };
    let key = broker.key_for(startup);
    let outcome = tokio::select! {
        biased;
        () = client.gone(true) => return Ok(None),
        outcome = begin_with(&key, &wishes, broker) => outcome,
    };
    let defaults = match outcome {
        Ok(Begin::With(defaults)) => defaults,
        Ok(Begin::Refused(body)) => {
            let mut words = BytesMut::new();
            reply::as_fatal(&mut words, &body);
            refuse::say(client, &words).await;
            let code = SqlState::of_error(&body);
            return Err(refused_client(code.as_ref().map_or("none", SqlState::as_str)));
        }
        Err(error) => {
            let words = error.reply.as_deref().map_or_else(|| refuse::for_error(&error), <[u8]>::to_vec);
            refuse::say(client, &words).await;
            return Err(error);
        }
    };
    let badge = enter(startup, &key, peer, broker)?;
    let words = welcome(&defaults, &badge);
    match timeout(broker.listener.upstream.connect_timeout, client.write_all(&words)).await {
        Ok(written) => written.map_err(|error| Error::io(Side::Client, &error))?,
        Err(_) => return Err(Error::client(Kind::Timeout, "the client does not read what ends its login")),
    }
    Ok(Some(Guest { key, defaults, badge }))
}

/// A client is here; it gets its key.
///
/// # Errors
/// As [`Clients::enter`](super::Clients::enter).
pub fn enter(startup: &Startup, key: &Key, peer: Option<SocketAddr>, broker: &Broker) -> Result<Badge> {
    broker.clients.enter(Facts {
        database: key.database.clone(),
        user: startup.user_for_display(),
        application: for_display(startup.parameter("application_name").unwrap_or_default()),
        peer,
        secret_bytes: wishes::secret_bytes(startup),
    })
}

/// Everything from AuthenticationOk to ReadyForQuery.
fn welcome(defaults: &Params, badge: &Badge) -> BytesMut {
    let mut out = BytesMut::from(message::authentication_ok().as_slice());
    for (name, value) in defaults.all_reported() {
        reply::parameter_status(&mut out, name, value);
    }
    let card = badge.card();
    reply::backend_key_data(&mut out, card.process(), card.secret());
    reply::ready_for_query(&mut out, reply::Status::Idle);
    out
}

/// What a client's wishes come to.
enum Begin {
    /// It begins with these settings.
    With(Rc<Params>),
    /// The server does not take them: the body of its ErrorResponse.
    Refused(Vec<u8>),
}

async fn begin_with(key: &Key, wishes: &Wishes, broker: &Rc<Broker>) -> Result<Begin> {
    if let Some(known) = broker.greetings.find(key, wishes) {
        return Ok(Begin::With(known));
    }
    let mut lease = broker.leases.take(key).await?;
    let link = lease.connection_mut();
    broker.greetings.meet(key, link);
    // Somebody else may have asked for the same meanwhile.
    if let Some(known) = broker.greetings.find(key, wishes) {
        lease.give_back();
        return Ok(Begin::With(known));
    }
    let asked = timeout(broker.listener.upstream.connect_timeout, ask(link, wishes)).await;
    let begin = asked
        .unwrap_or_else(|_| {
            Err(Error::upstream(Kind::Timeout, "the server did not put settings on a connection in time (connect_timeout)"))
        })
        .inspect_err(|error| broker.errors.report("settings not taken", error))?;
    // Whatever it has now, it says so of itself: the next who uses it puts that right.
    lease.give_back();
    match begin {
        Begin::With(params) => Ok(Begin::With(broker.greetings.learn(key, wishes, params))),
        refused @ Begin::Refused(_) => Ok(refused),
    }
}

/// Has the server judge the wishes: puts them on `link` in place of whatever other clients have left there.
async fn ask(link: &mut Link, wishes: &Wishes) -> Result<Begin> {
    let (stream, server) = link.split();
    let mut changes = server.params.changes_to(&server.base);
    changes.retain(|(name, _)| !wishes.has(name));
    changes.extend(wishes.settings().map(|(name, value)| (name.into(), Some(value.into()))));
    let mut params = Params::clone(&server.params);
    for (name, value) in &changes {
        params.ask(name, value.as_deref());
    }
    let mut request = BytesMut::new();
    set_config(&mut request, &changes);
    server.unnamed_is_gone();
    match settings::put(stream, &request, |name, value| params.report(name, value)).await? {
        Outcome::Done => {
            server.params = Rc::new(params);
            Ok(Begin::With(Rc::clone(&server.params)))
        }
        Outcome::Refused(body) => Ok(Begin::Refused(body)),
    }
}

impl Greetings {
    /// Nothing is known yet. Everything is forgotten when `moved` says that there may be another server now.
    #[must_use]
    pub fn new(moved: watch::Receiver<u64>) -> Self {
        Self { known: RefCell::default(), moved: RefCell::new(moved) }
    }

    /// What a client with these wishes begins with, if that is known.
    #[must_use]
    pub fn find(&self, key: &Key, wishes: &Wishes) -> Option<Rc<Params>> {
        let mut moved = self.moved.borrow_mut();
        // An error: nobody is left who could say so.
        if moved.has_changed().unwrap_or(false) {
            moved.mark_unchanged();
            self.known.borrow_mut().clear();
        }
        let known = self.known.borrow();
        let known = known.get(key)?;
        if wishes.is_empty() { Some(Rc::clone(&known.base)) } else { known.by_wishes.get(wishes).cloned() }
    }

    /// Looks at a connection: if a new one of its database is no longer as others were, what was known is forgotten. If it is, they share what
    /// they have in common, so that comparing them costs nothing.
    pub fn meet(&self, key: &Key, link: &mut Link) {
        let server = &mut link.server;
        let mut all = self.known.borrow_mut();
        match all.get_mut(key) {
            Some(known) if Rc::ptr_eq(&known.base, &server.base) => {}
            Some(known) if *known.base == *server.base => {
                if Rc::ptr_eq(&server.params, &server.base) {
                    server.params = Rc::clone(&known.base);
                }
                server.base = Rc::clone(&known.base);
            }
            Some(known) => *known = Known::new(&server.base),
            None => {
                Self::make_room(&mut all);
                all.insert(key.clone(), Known::new(&server.base));
            }
        }
    }

    /// What all with these wishes begin with from now on: that of the first, so that comparing theirs costs nothing.
    fn learn(&self, key: &Key, wishes: &Wishes, params: Rc<Params>) -> Rc<Params> {
        let mut all = self.known.borrow_mut();
        Self::make_room(&mut all);
        match all.get_mut(key) {
            Some(known) => match known.by_wishes.entry(wishes.clone()) {
                Entry::Occupied(first) if **first.get() == *params => Rc::clone(first.get()),
                Entry::Occupied(mut first) => {
                    first.insert(Rc::clone(&params));
                    params
                }
                Entry::Vacant(place) => Rc::clone(place.insert(params)),
            },
            None => params,
        }
    }

    /// Clients that all ask for something else get no use of it anyway.
    fn make_room(all: &mut HashMap<Key, Known>) {
        let answers: usize = all.values().map(|known| known.by_wishes.len() + 1).sum();
        if answers >= MOST_ANSWERS {
            all.clear();
        }
    }
}

impl Known {
    fn new(base: &Rc<Params>) -> Self {
        Self { base: Rc::clone(base), by_wishes: HashMap::new() }
    }
}

fn refused_client(code: &str) -> Error {
    Error::client(Kind::Protocol, format!("what the client's StartupMessage asks for was refused (SQLSTATE {code}); it was told why"))
}

/// For people: at most PostgreSQL's 63 bytes, and no control characters.
fn for_display(name: &[u8]) -> String {
    String::from_utf8_lossy(name.get(..63).unwrap_or(name)).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
