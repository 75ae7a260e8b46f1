//! `[pure]` What a client's StartupMessage asks for, besides a login.

use std::collections::BTreeMap;

use bytes::BytesMut;

use crate::postgres::Startup;
use crate::postgres::options;
use crate::postgres::reply::negotiate_protocol_version;
use crate::postgres::startup::Refusal;

/// The newest minor version of protocol 3 that is spoken. There never was a 3.1.
const NEWEST_MINOR: u16 = 2;
/// How long a client's secret is, by what it can take.
const SECRET_BYTES: (usize, usize) = (4, 32);

/// The settings that a client wants, by their names in lower case, each with the name as it was written and the value. Of two for one setting
/// the last counts; those of `options` come first, as in the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wishes(BTreeMap<Box<[u8]>, Wish>);

/// A setting's name, and its value.
type Wish = (Box<[u8]>, Box<[u8]>);

impl Wishes {
    /// What this client wants.
    ///
    /// # Errors
    /// It wants what cannot be had over a shared connection, or its `options` cannot be understood.
    pub fn of(startup: &Startup) -> Result<Self, Refusal> {
        // Of two the last counts here as well.
        if let Some((_, value)) = startup.parameters().filter(|(name, _)| *name == b"replication").last() {
            refuse_replication(value)?;
        }
        let mut wishes = Self::default();
        if let Some((_, value)) = startup.parameters().filter(|(name, _)| *name == b"options").last() {
            for (name, value) in options::parse(value)? {
                wishes.add(&name, &value);
            }
        }
        for (name, value) in startup.parameters() {
            let is_ours = matches!(name, b"user" | b"database" | b"options" | b"replication") || name.starts_with(b"_pq_.");
            if !is_ours {
                wishes.add(name, value);
            }
        }
        Ok(wishes)
    }

    fn add(&mut self, name: &[u8], value: &[u8]) {
        self.0.insert(name.to_ascii_lowercase().into(), (name.into(), value.into()));
    }

    /// True when nothing is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when a setting of this name is wanted, whatever its case.
    #[must_use]
    pub fn has(&self, name: &[u8]) -> bool {
        self.0.contains_key(name.to_ascii_lowercase().as_slice())
    }

    /// Names and values.
    pub fn settings(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.values().map(|(name, value)| (&**name, &**value))
    }
}

/// Replication is a protocol of its own: it lasts as long as its connection.
fn refuse_replication(value: &[u8]) -> Result<(), Refusal> {
    let wanted = value.to_ascii_lowercase();
    // As the server reads a boolean: the beginning of a word will do, unless it is the beginning of two.
    let is = |words: [(&[u8], usize); 3]| words.iter().any(|(word, least)| word.starts_with(&wanted) && wanted.len() >= *least);
    if wanted == b"0" || is([(b"false", 1), (b"no", 1), (b"off", 2)]) {
        return Ok(());
    }
    if wanted == b"1" || wanted == b"database" || is([(b"true", 1), (b"yes", 1), (b"on", 2)]) {
        let text = "replication is not possible over pooled connections: use a listener with pool: relay, or connect to the server itself";
        return Err(Refusal { code: "0A000", text: text.to_owned() });
    }
    Err(Refusal { code: "22023", text: format!("invalid value for parameter \"replication\": \"{}\"", String::from_utf8_lossy(value)) })
}

/// The protocol's minor version that is spoken with this client.
#[must_use]
pub fn minor_version(startup: &Startup) -> u16 {
    if startup.version().1 >= NEWEST_MINOR { NEWEST_MINOR } else { 0 }
}

/// How long the secret in this client's key may be.
#[must_use]
pub fn secret_bytes(startup: &Startup) -> usize {
    if minor_version(startup) >= 2 { SECRET_BYTES.1 } else { SECRET_BYTES.0 }
}

/// What has to be said before anything else to a client that wants a version, or options of the protocol, that are not spoken here.
#[must_use]
pub fn negotiation(startup: &Startup) -> Option<BytesMut> {
    let unknown: Vec<_> = startup.parameters().map(|(name, _)| name).filter(|name| name.starts_with(b"_pq_.")).collect();
    let minor = minor_version(startup);
    if unknown.is_empty() && startup.version().1 == minor {
        return None;
    }
    let mut out = BytesMut::new();
    negotiate_protocol_version(&mut out, minor, &unknown);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::startup::{First, parse};

    fn startup(minor: u16, parameters: &[(&str, &str)]) -> Startup {
        let mut packet = vec![0, 0, 0, 0, 0, 3];
        packet.extend(minor.to_be_bytes());
        for (name, value) in [("user", "harbor")].iter().chain(parameters) {
            packet.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        packet.push(0);
        let length = u32::try_from(packet.len()).unwrap().to_be_bytes();
        packet[..4].copy_from_slice(&length);
        match parse(packet.into()).unwrap() {
            First::Startup(startup) => startup,
            other => panic!("{other:?}"),
        }
    }

    fn wishes(parameters: &[(&str, &str)]) -> Vec<String> {
        let wishes = Wishes::of(&startup(0, parameters)).unwrap();
        wishes.settings().map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii())).collect()
    }

    #[test]
    fn everything_but_the_login_is_a_wish() {
        assert!(wishes(&[("database", "registry"), ("replication", "off"), ("_pq_.x", "1")]).is_empty());
        assert_eq!(wishes(&[("timezone", "UTC"), ("DateStyle", "ISO")]), ["DateStyle=ISO", "timezone=UTC"]);
        assert_eq!(wishes(&[("TimeZone", "UTC"), ("timezone", "Asia/Tokyo")]), ["timezone=Asia/Tokyo"], "the last counts");
        assert_eq!(wishes(&[("geqo", "off"), ("options", "-c geqo=on -c jit=off")]), ["geqo=off", "jit=off"], "options come first");
        assert_eq!(wishes(&[("options", "-c geqo=on"), ("options", "-c jit=off")]), ["jit=off"], "the last options");
        assert_eq!(wishes(&[("application_name", "'; DROP TABLE x; --")]), [r"application_name=\'; DROP TABLE x; --"]);
    }

    #[test]
    fn wishes_are_alike_whatever_their_order() {
        let one = Wishes::of(&startup(0, &[("a", "1"), ("B", "2")])).unwrap();
        let other = Wishes::of(&startup(2, &[("B", "2"), ("a", "1")])).unwrap();
        assert_eq!(one, other);
        assert_ne!(one, Wishes::of(&startup(0, &[("a", "1"), ("B", "3")])).unwrap());
        assert!(one.has(b"b") && one.has(b"A") && !one.has(b"c"));
    }

    #[test]
    fn replication_is_refused_unless_it_is_not_wanted() {
        let code = |value| Wishes::of(&startup(0, &[("replication", value)])).err().map(|refusal| refusal.code);
        for no in ["0", "off", "OF", "no", "n", "false", "F", "fal"] {
            assert_eq!(code(no), None, "{no}");
        }
        for yes in ["1", "on", "true", "t", "yes", "Y", "database", "DATABASE"] {
            assert_eq!(code(yes), Some("0A000"), "{yes}");
        }
        for nonsense in ["", "o", "2", "offf", "databas"] {
            assert_eq!(code(nonsense), Some("22023"), "{nonsense}");
        }
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let refusal = Wishes::of(&startup(0, &[("options", "-d 5")])).unwrap_err();
        assert_eq!(refusal.code, "42601");
    }

    #[test]
    fn versions_are_negotiated_once_and_downwards() {
        let said = |minor, parameters: &[_]| negotiation(&startup(minor, parameters)).map(|said| said.to_vec());
        for (minor, spoken) in [(0, 0), (2, 2)] {
            assert_eq!(said(minor, &[]), None);
            assert_eq!(minor_version(&startup(minor, &[])), spoken);
        }
        // A server must not answer with more than was asked for.
        assert_eq!(said(1, &[]).unwrap(), b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0");
        assert_eq!(said(3, &[]).unwrap(), b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0");
        assert_eq!(said(9999, &[("_pq_.a", "1")]).unwrap(), b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.a\0");
        assert_eq!(said(0, &[("_pq_.a", "1")]).unwrap(), b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.a\0");
        for (minor, bytes) in [(0, 4), (1, 4), (2, 32), (9999, 32)] {
            assert_eq!(secret_bytes(&startup(minor, &[])), bytes);
        }
    }
}
