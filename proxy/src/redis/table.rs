//! The command table: what each command means for the connection that carries it, and how a request is looked up in it. `[pure]`
//!
//! The rule. [`Class::Read`], [`Class::Write`] and [`Class::Wait`] may go over a connection that other clients use at the same time, so each
//! of these holds for every entry with one of them, on every server that has the command:
//! - it is answered with exactly one frame, in its turn, and nothing more comes later: replies are told apart by counting them;
//! - it never makes the server close the connection;
//! - it leaves nothing on the connection, neither state nor a wait for other clients (WAIT alone waits, which is why it is a class);
//! - its answer is about the data or the server, not about who or what the connection is.
//!
//! Not one of SUBSCRIBE (a frame for each channel), CLIENT REPLY (none), MONITOR, QUIT, SHUTDOWN, CLIENT KILL, ACL DELUSER (may close the
//! very connection) passes. What the table does not know is [`Class::Unknown`], because nothing says what it leaves behind: modules' commands,
//! and the few that servers keep for themselves. Otherwise it covers Redis up to 8.6 and Valkey up to 9.1.
//!
//! Everything has an entry: in `data`, `reads` and `writes` a *group* of names with one class and one reason each, in `containers` the
//! commands that are told apart by their first argument.

mod containers;
mod data;
pub mod fuzz;
mod reads;
mod slots;
mod writes;

use super::class::Class;
use super::head::{Head, Missing, short_name};
use slots::{find, find_in};

/// Names with one class, for one reason.
#[derive(Debug)]
struct Group {
    class: Class,
    /// Why this class.
    why: &'static str,
    /// In capitals.
    names: &'static [&'static str],
}

/// A command that is told apart by its first argument. Without one it is [`ALONE`], with one that is in none of the groups unknown.
#[derive(Debug)]
struct Container {
    /// In capitals.
    name: &'static str,
    groups: &'static [Group],
}

/// The server says that an argument is missing; COMMAND has an answer.
const ALONE: Class = Class::Read;

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
enum Meaning {
    Plain(Class),
    /// This class, but for BLOCK among the options: XREAD, XREADGROUP.
    Streams(Class),
    Container(&'static Container),
}

/// One command or subcommand, as the table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// In capitals.
    pub name: &'static str,
    /// In capitals; a container itself has an entry without, for the request that has no argument.
    pub subcommand: Option<&'static str>,
    /// XREAD and XREADGROUP: without BLOCK.
    pub class: Class,
    /// Why this class.
    pub why: &'static str,
}

/// No name of a command or subcommand is longer: what announces more is unknown before it has arrived.
const LONGEST_NAME: usize = 32;

/// The class of the request that `frame` begins with; only its first part may have arrived. `None`: more bytes are needed to tell.
///
/// `frame` begins where a request begins and ends at its end at the latest, unless it is an array. A frame that is nothing (a blank line, `*0`)
/// has no class, ever: `None`. What a [`super::frame::RequestScanner`] refuses gets any class. More bytes do not change the class, with one
/// exception: XREAD and XREADGROUP are [`Class::Blocking`] until the word STREAMS has arrived with no BLOCK before it. At most 9 words
/// and 9 short arguments are looked at, whatever the frame's size; an inline frame is taken up only when its line end is the last byte.
#[must_use]
#[inline]
pub fn classify(frame: &[u8]) -> Option<Class> {
    if let Some((length, bytes)) = short_name(frame)
        && let Some(Meaning::Plain(class)) = find_in(bytes, length)
    {
        return Some(class);
    }
    classify_slowly(frame)
}

/// The same for every frame.
fn classify_slowly(frame: &[u8]) -> Option<Class> {
    let mut head = Head::new(frame);
    let meaning = match head.next()? {
        Ok(name) => find(&name),
        Err(Missing::Header) => return None,
        Err(Missing::Payload(length)) if length <= LONGEST_NAME => return None,
        Err(Missing::Payload(_) | Missing::Broken) => None,
    };
    match meaning {
        Some(Meaning::Plain(class)) => Some(class),
        Some(Meaning::Container(container)) => contained(container, head),
        Some(Meaning::Streams(class)) => Some(streams(class, head)),
        None => Some(Class::Unknown),
    }
}

/// The class of a container's subcommand.
fn contained(container: &Container, mut head: Head<'_>) -> Option<Class> {
    match head.next() {
        Some(Ok(subcommand)) => {
            let known =
                container.groups.iter().find(|group| group.names.iter().any(|name| subcommand.eq_ignore_ascii_case(name.as_bytes())));
            Some(known.map_or(Class::Unknown, |group| group.class))
        }
        None => Some(ALONE),
        Some(Err(Missing::Header)) => None,
        Some(Err(Missing::Payload(length))) if length <= LONGEST_NAME => None,
        Some(Err(Missing::Payload(_) | Missing::Broken)) => Some(Class::Unknown),
    }
}

/// XREAD and XREADGROUP: options in any order, then STREAMS and the keys. A group or consumer may itself be called BLOCK, so the options'
/// values are stepped over. What is no option, or has not arrived, might be followed by BLOCK.
fn streams(class: Class, mut head: Head<'_>) -> Class {
    /// Each of the server's options once, and STREAMS.
    const OPTIONS: usize = 8;
    for _ in 0..OPTIONS {
        let Some(Ok(option)) = head.next() else { return Class::Blocking };
        let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
        let values = if is("STREAMS") {
            return class;
        } else if is("COUNT") || is("CLAIM") {
            1
        } else if is("GROUP") {
            2
        } else if is("NOACK") {
            0
        } else {
            return Class::Blocking;
        };
        for _ in 0..values {
            if !matches!(head.next(), Some(Ok(_))) {
                return Class::Blocking;
            }
        }
    }
    Class::Blocking
}

/// All entries, in no particular order.
pub fn entries() -> impl Iterator<Item = Entry> {
    let plain = data::GROUPS
        .iter()
        .copied()
        .flatten()
        .flat_map(|group| group.names.iter().map(|&name| Entry { name, subcommand: None, class: group.class, why: group.why }));
    let streams = data::STREAMS
        .iter()
        .flat_map(|group| group.names.iter().map(|&name| Entry { name, subcommand: None, class: group.class, why: group.why }));
    let contained = containers::CONTAINERS.iter().flat_map(|container| {
        let alone = Entry { name: container.name, subcommand: None, class: ALONE, why: "only says that an argument is missing" };
        let with = container.groups.iter().flat_map(|group| {
            let entry = |&name| Entry { name: container.name, subcommand: Some(name), class: group.class, why: group.why };
            group.names.iter().map(entry)
        });
        std::iter::once(alone).chain(with)
    });
    plain.chain(streams).chain(contained)
}

#[cfg(test)]
mod tests;
