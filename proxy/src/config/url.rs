//! URLs: `rediss://`, `postgresql://` and `tls://`, with options in the query.
//!
//! No message of this file repeats any part of a URL that may be a password, and in a mistyped URL that is every part: a forgotten `@`
//! makes a port of it, an unescaped `/` a path.

use percent_encoding::percent_decode_str;
use secrecy::SecretString;

use super::types::Protocol;
use super::{value, words};

/// A URL, taken apart.
#[derive(Debug)]
pub(super) struct Url {
    pub(super) protocol: Protocol,
    /// A DNS name or an IP address, IPv6 without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<SecretString>,
    /// Redis: digits that fit 32 bits.
    pub(super) database: Option<String>,
    /// Decoded, in order, not looked at yet.
    pub(super) query: Vec<(String, String)>,
    /// The text could not be read: nothing but the protocol may be believed, and that only if it is not PostgreSQL.
    pub(super) is_stand_in: bool,
}

const SCHEMES: [(&str, Protocol, Option<u16>); 4] = [
    ("rediss", Protocol::Redis, Some(6379)),
    ("postgresql", Protocol::Postgres, Some(5432)),
    ("postgres", Protocol::Postgres, Some(5432)),
    ("tls", Protocol::Tls, None),
];

impl Url {
    /// Takes `text` apart.
    ///
    /// # Errors
    /// The first mistake and its cure, safe to show.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("has no scheme; say rediss://HOST, postgresql://HOST or tls://HOST:PORT")?;
        let (protocol, default_port) = protocol(scheme)?;
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(authority_end);
        if tail.contains('@') || authority.matches('@').count() > 1 {
            return Err(
                "has an @ that is not the one before the host; write @ / ? # : % inside a user, password or option as %40 %2F %3F %23 \
                 %3A %25"
                    .to_owned(),
            );
        }
        if tail.contains('#') {
            return Err("has a #; write it as %23".to_owned());
        }
        let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (host, port) = host_and_port(address, scheme, default_port)?;
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        let password = decoded(password, "password")?;
        Ok(Self {
            protocol,
            host,
            port,
            user: decoded(user, "user")?,
            password: password.map(SecretString::from),
            database: database(path.strip_prefix('/').unwrap_or(path), protocol)?,
            query: form_urlencoded::parse(query.as_bytes()).map(|(key, value)| (key.into_owned(), value.into_owned())).collect(),
            is_stand_in: false,
        })
    }

    /// For a text that cannot be parsed, so that the settings beside it can be looked at. Of an unknown protocol it takes the one that goes
    /// with every setting.
    pub(super) fn stand_in(text: &str) -> Self {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let protocol = match scheme.to_ascii_lowercase().as_str() {
            "redis" => match Self::parse(&format!("rediss://{rest}")) {
                // Only the scheme is wrong.
                Ok(url) => return url,
                Err(_) => Protocol::Redis,
            },
            "rediss" => Protocol::Redis,
            "tls" => Protocol::Tls,
            _ => Protocol::Postgres,
        };
        Self { protocol, host: String::new(), port: 0, user: None, password: None, database: None, query: Vec::new(), is_stand_in: true }
    }

    /// Scheme, host and port: what messages call it.
    pub(super) fn label(&self) -> String {
        let scheme = SCHEMES.iter().find(|(_, protocol, _)| *protocol == self.protocol).map_or("", |(scheme, ..)| *scheme);
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        format!("{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

fn protocol(scheme: &str) -> Result<(Protocol, Option<u16>), String> {
    if scheme.eq_ignore_ascii_case("redis") {
        return Err("says redis://, which is plaintext: the proxy speaks TLS to the server; say rediss:// (with two s)".to_owned());
    }
    let known = SCHEMES.iter().find(|(name, ..)| scheme.eq_ignore_ascii_case(name));
    known.map(|(_, protocol, port)| (*protocol, *port)).ok_or_else(|| {
        let names = SCHEMES.iter().map(|(name, ..)| *name);
        format!("has an unknown scheme; {}", words::guess(scheme, names, "say one of "))
    })
}

fn host_and_port(address: &str, scheme: &str, default: Option<u16>) -> Result<(String, u16), String> {
    let (host, port) = if let Some(bracketed) = address.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']').ok_or("has a [ without ]; write an IPv6 address as [2001:db8::1]")?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("has something in brackets that is not an IPv6 address; write it as [2001:db8::1]".to_owned());
        }
        (
            host,
            after.strip_prefix(':').or_else(|| after.is_empty().then_some("")).ok_or("has text after the ]; only :PORT can stand there")?,
        )
    } else {
        if address.matches(':').count() > 1 {
            return Err("has several colons in its address; write an IPv6 address in brackets, and a : in a password as %3A".to_owned());
        }
        address.split_once(':').unwrap_or((address, ""))
    };
    if host.is_empty() {
        return Err(format!("has no host; say {scheme}://HOST"));
    }
    if host.contains(',') {
        return Err("names several hosts; give one".to_owned());
    }
    let host = value::server_name(host).map_err(|_| "has a host that is neither a DNS name nor an IP address; correct it")?;
    let port = match (port, default) {
        ("", Some(port)) => port,
        ("", None) => return Err(format!("has no port, and {scheme}:// has no default; say {scheme}://HOST:PORT")),
        (text, _) => text.parse().ok().filter(|port| *port != 0).ok_or(
            "has a port that is not a number from 1 to 65535; correct it (is the @ between password and host missing, or a / in the \
             password not written as %2F?)",
        )?,
    };
    Ok((host, port))
}

fn database(path: &str, protocol: Protocol) -> Result<Option<String>, String> {
    let database = decoded(path, "database")?;
    match (protocol, &database) {
        (_, None) => Ok(None),
        (Protocol::Redis, Some(text)) => match text.parse::<u32>() {
            Ok(number) => Ok(Some(number.to_string())),
            Err(_) => Err("has a database that is not a number; Redis databases are numbers from 0, such as /2".to_owned()),
        },
        (Protocol::Postgres, Some(text)) if text.contains('/') => {
            Err("has a / in its database; write it as %2F if it belongs to the name".to_owned())
        }
        (Protocol::Postgres, Some(_)) => Ok(database),
        (Protocol::Tls, Some(_)) => Err("has a path, which tls:// has no use for; remove it".to_owned()),
    }
}

/// Percent-decoded; `None` when empty.
fn decoded(text: &str, what: &str) -> Result<Option<String>, String> {
    let mut after_percent = text.split('%');
    let _ = after_percent.next();
    if after_percent.any(|part| !part.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()) || part.len() < 2) {
        return Err(format!("has a % in its {what} that starts no escape; write it as %25"));
    }
    let text = percent_decode_str(text).decode_utf8().map_err(|_| format!("has a {what} that is not UTF-8; correct its escapes"))?;
    if text.contains('\0') {
        return Err(format!("has a zero byte in its {what}; no server accepts one"));
    }
    Ok((!text.is_empty()).then(|| text.into_owned()))
}

/// What to say about query keys that other programs know.
pub(super) fn foreign_key(key: &str) -> Option<&'static str> {
    Some(match key {
        "sslmode" | "ssl_cert_reqs" | "channel_binding" => "is not needed: the certificate is always verified, chain and name; remove it",
        "sslrootcert" | "ssl_ca_certs" => "is called ca_file here; use that name",
        "sslcert" | "ssl_certfile" => "is called client_cert here; use that name",
        "sslkey" | "ssl_keyfile" => "is called client_key here; use that name",
        "sslnegotiation" => "is called direct_tls here; say direct_tls=on",
        "ssl_min_protocol_version" => "is called tls_min here; say 1.2 or 1.3",
        "password" | "passfile" => "does not go here; use password_file or password_env",
        "user" | "username" => "does not go here; write it before the host, as user@HOST",
        "db" | "dbname" | "database" => "does not go here; write it after the host, as HOST/DATABASE",
        "host" | "port" | "hostaddr" => "does not go here; write HOST:PORT",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn shown(text: &str) -> String {
        match Url::parse(text) {
            Ok(url) => {
                let password = url.password.as_ref().map(|password| password.expose_secret().to_owned());
                format!("{} {:?} {:?} {:?} {:?}", url.label(), url.user, password, url.database, url.query)
            }
            Err(why) => why.split([';', '(']).next().unwrap().trim().to_owned(),
        }
    }

    #[test]
    fn takes_urls_apart() {
        for (text, expected) in [
            ("rediss://h", "rediss://h:6379 None None None []"),
            ("REDISS://H.Example/0", "rediss://h.example:6379 None None Some(\"0\") []"),
            ("rediss://u:p@h:1/2", "rediss://h:1 Some(\"u\") Some(\"p\") Some(\"2\") []"),
            ("rediss://:p%40%2f@h", "rediss://h:6379 None Some(\"p@/\") None []"),
            ("rediss://u:p:q@h", "rediss://h:6379 Some(\"u\") Some(\"p:q\") None []"),
            ("rediss://[::1]", "rediss://[::1]:6379 None None None []"),
            ("rediss://[2001:DB8::1]:7/", "rediss://[2001:db8::1]:7 None None None []"),
            ("rediss://10.0.0.1?a=b&c=d%20e", "rediss://10.0.0.1:6379 None None None [(\"a\", \"b\"), (\"c\", \"d e\")]"),
            ("postgres://u@h/my%20db", "postgresql://h:5432 Some(\"u\") None Some(\"my db\") []"),
            ("postgresql://h", "postgresql://h:5432 None None None []"),
            ("tls://h:443", "tls://h:443 None None None []"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        for (text, expected) in [
            ("host:6379", "has no scheme"),
            ("redis://h", "says redis://, which is plaintext: the proxy speaks TLS to the server"),
            ("redis+tls://h", "has an unknown scheme"),
            ("rediss://", "has no host"),
            ("rediss://u:p@", "has no host"),
            ("rediss://h:0", "has a port that is not a number from 1 to 65535"),
            ("rediss://h:65536", "has a port that is not a number from 1 to 65535"),
            ("rediss://u:p/w@h", "has an @ that is not the one before the host"),
            ("rediss://u:p@w@h", "has an @ that is not the one before the host"),
            ("rediss://u:p#w@h", "has an @ that is not the one before the host"),
            ("rediss://h#1", "has a #"),
            ("rediss://::1", "has several colons in its address"),
            ("rediss://[::1", "has a [ without ]"),
            ("rediss://[::1]x", "has text after the ]"),
            ("rediss://[h]", "has something in brackets that is not an IPv6 address"),
            ("rediss://a,b", "names several hosts"),
            ("rediss://h_ _", "has a host that is neither a DNS name nor an IP address"),
            ("rediss://h/x", "has a database that is not a number"),
            ("rediss://h/-1", "has a database that is not a number"),
            ("rediss://u:%zz@h", "has a % in its password that starts no escape"),
            ("rediss://u:%ff@h", "has a password that is not UTF-8"),
            ("postgresql://h/a%00b", "has a zero byte in its database"),
            ("postgresql://h/a/b", "has a / in its database"),
            ("tls://h", "has no port, and tls:// has no default"),
            ("tls://h:1/x", "has a path, which tls:// has no use for"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
