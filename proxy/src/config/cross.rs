//! Checks between settings of different listeners, and against the machine.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Wanted;
use super::build::Draft;
use super::layers::{View, spell};
use super::mistakes::{Mistakes, Origin, Site};
use super::pem;
use super::settings::Key;
use super::types::{ClientAuth, ListenAddr, Listener, Password, PoolMode, Protocol};
use super::value::Value;

/// No two listeners may share a name or an address, nor one of them the admin's.
pub(super) fn duplicates(drafts: &[Draft], admin: Option<SocketAddr>, admin_origin: &Origin, mistakes: &mut Mistakes) {
    for (index, draft) in drafts.iter().enumerate() {
        let mut earlier = drafts.iter().take(index);
        let (site, listener) = (Some(&draft.site), &draft.listener);
        let same_address = |other: &Draft| other.has_address && draft.has_address && overlap(&other.listener.listen, &listener.listen);
        let same_name = |other: &Draft| other.has_name && draft.has_name && other.listener.name == listener.name;
        if let Some(other) = earlier.clone().find(|other| same_address(other)) {
            let cure = match &draft.site {
                Site::Argument(_) => "add ?listen=127.0.0.1:PORT to one of the URLs".to_owned(),
                Site::File(_) => format!("give it its own {}", spell(site, Key::Listen, "127.0.0.1:PORT")),
            };
            let what = format!("{} is taken by {}; {cure}", listener.listen, whose(other));
            mistakes.setting(Key::Listen, &draft.listen_origin, site, what);
        } else if let Some(other) = earlier.find(|other| same_name(other)) {
            let cure = match &draft.site {
                Site::Argument(_) => "add ?name=NAME to one of the URLs".to_owned(),
                Site::File(_) => format!("give it its own {}", spell(site, Key::Name, "NAME")),
            };
            let what = format!("`{}` is also the name of {}; {cure}", listener.name, whose(other));
            mistakes.setting(Key::Name, &draft.name_origin, site, what);
        }
        if let Some(admin) = admin
            && draft.has_address
            && overlap(&ListenAddr::Tcp(admin), &listener.listen)
        {
            let what = format!("{admin} is taken by {}; choose another port, or off", whose(draft));
            mistakes.setting(Key::Admin, admin_origin, None, what);
        }
    }
}

fn whose(draft: &Draft) -> String {
    match &draft.site {
        Site::Argument(label) => label.clone(),
        Site::File(line) => format!("the listener on line {line}"),
    }
}

/// A wildcard takes its port on every address; `[::]` takes IPv4 too.
fn overlap(a: &ListenAddr, b: &ListenAddr) -> bool {
    match (a, b) {
        (ListenAddr::Unix(a), ListenAddr::Unix(b)) => a == b,
        (ListenAddr::Tcp(a), ListenAddr::Tcp(b)) if a.port() == b.port() && a.port() != 0 => {
            let takes = |all: &SocketAddr, one: &SocketAddr| all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4());
            a.ip().to_canonical() == b.ip().to_canonical() || takes(a, b) || takes(b, a)
        }
        _ => false,
    }
}

/// Reports an address or a name that is given for all listeners at once; true if there was one.
pub(super) fn given_to_all(view: &View<'_>, listeners: usize, mistakes: &mut Mistakes) -> bool {
    if listeners < 2 {
        return false;
    }
    let mut any = false;
    for key in [Key::Listen, Key::Name] {
        let [_, flags, env, _, top] = view.layers;
        if let Some(found) = flags.get(key).or_else(|| env.get(key)).or_else(|| top.get(key)) {
            any = true;
            let name = key.setting().file_key();
            mistakes.setting(
                key,
                &found.origin,
                None,
                format!("would be the same for all {listeners} listeners; give each its own, in the file or as ?{name}= in its URL"),
            );
        }
    }
    any
}

/// Settings that only some protocols have a use for. Given for all listeners they hold where they make sense, and somewhere they must.
pub(super) fn useless(view: &View<'_>, wanted: &[Wanted], mistakes: &mut Mistakes) {
    let tls_only = "is for rediss:// and postgresql://, which log in; remove it";
    let pooled_only = "is for postgresql:// with pool session or transaction only; remove it";
    let (modes_of, cure): (&[_], _) = match view.find(Key::Pool).map(|found| found.value) {
        Some(Value::Word("multiplex")) => (&[Protocol::Redis], "can be multiplex for rediss:// only; use relay"),
        Some(Value::Word("transaction")) => (&[Protocol::Postgres], "can be transaction for postgresql:// only; use relay"),
        _ => (&[Protocol::Redis, Protocol::Postgres], "can be other than relay for rediss:// and postgresql:// only; use relay"),
    };
    for (key, protocols, what) in [
        (Key::DirectTls, &[Protocol::Postgres][..], "is for postgresql:// only, the others always start with TLS; remove it"),
        (Key::PasswordFile, &[Protocol::Redis, Protocol::Postgres], tls_only),
        (Key::PasswordEnv, &[Protocol::Redis, Protocol::Postgres], tls_only),
        (Key::Pool, modes_of, cure),
        (Key::PoolBudgetTotal, &[Protocol::Postgres], pooled_only),
        (Key::PoolBudgetReserve, &[Protocol::Postgres], pooled_only),
        (Key::PoolBudgetPeers, &[Protocol::Postgres], pooled_only),
        (Key::PreparedStatements, &[Protocol::Postgres], "is for postgresql:// with pool transaction only; remove it"),
    ] {
        let is_used = wanted.is_empty() || wanted.iter().any(|wanted| protocols.contains(&wanted.url.protocol));
        let is_off = matches!(view.find(key).map(|found| found.value), Some(Value::Switch(false) | Value::Word("relay")));
        if view.is_given(key) && !is_used && !is_off {
            view.mistake(mistakes, key, what);
        }
    }
}

/// Lanes keep their places in the pool: a worker that gets none could never serve a client.
pub(super) fn lanes_have_places(view: &View<'_>, listener: &Listener, workers: usize, mistakes: &mut Mistakes) {
    let pool = &listener.pool;
    if pool.mode == PoolMode::Multiplex && (1..workers).contains(&pool.size) {
        let what = format!(
            "is {}, and each of the {workers} workers keeps a connection for its clients to share; raise it above {workers}, or lower workers",
            pool.size
        );
        view.mistake(mistakes, Key::PoolSize, what);
    }
}

/// A combination that is allowed and will surprise.
pub(super) fn surprise(listener: &Listener, workers: usize) -> Option<String> {
    let pool = &listener.pool;
    if pool.mode == PoolMode::Multiplex && pool.size == workers {
        return Some(format!(
            "{}: pool_size {workers} is taken up by what the {workers} worker(s) share; clients that need a connection of their own (WATCH, \
             BLPOP, SUBSCRIBE, another database) get none; raise pool_size",
            listener.name
        ));
    }
    // libpq signs "I could bind to the channel, you did not offer it", the server did offer it, and takes that for an attack (RFC 5802, 6).
    let passes_logins = listener.protocol == Protocol::Postgres && listener.upstream.credentials.is_none();
    (passes_logins && listener.listen_tls.is_some()).then(|| {
        format!(
            "{}: clients that speak TLS here and pass their SCRAM login through need channel_binding=disable; better give the proxy its own \
             login (a user in the URL and password_file) and the clients a local password (client_auth)",
            listener.name
        )
    })
}

/// Every file that the listener names must be there and be what it should.
pub(super) fn files(view: &View<'_>, draft: &Draft, mistakes: &mut Mistakes) {
    let listener = &draft.listener;
    let mut say = |key: Key, result: Result<(), String>| {
        if let Err(why) = result {
            view.mistake(mistakes, key, why);
        }
    };
    let tls = &listener.upstream.tls;
    if let Some(path) = &tls.ca_file {
        say(Key::CaFile, pem::read_roots(path).map(drop));
    }
    if let Some((cert, key)) = &tls.client_cert {
        say(Key::ClientCert, pem::read_pair(cert, key).map(drop));
    }
    if let Some(tls) = &listener.listen_tls {
        say(Key::ListenCert, pem::read_pair(&tls.cert, &tls.key).map(drop));
        if let Some(path) = &tls.client_ca {
            say(Key::ListenClientCa, pem::read_roots(path).map(drop));
        }
    }
    if let Some(path) = password_file(listener.upstream.credentials.as_ref().map(|credentials| &credentials.password)) {
        say(Key::PasswordFile, pem::read_password(path).map(drop));
    }
    if let ClientAuth::Password(password) = &listener.client_auth
        && let Some(path) = password_file(Some(password))
    {
        say(Key::ClientPasswordFile, pem::read_password(path).map(drop));
    }
}

fn password_file(password: Option<&Password>) -> Option<&PathBuf> {
    match password {
        Some(Password::File(path)) => Some(path),
        Some(Password::Inline(_)) | None => None,
    }
}

/// Every address must be free.
pub(super) fn addresses(
    drafts: &[Draft],
    admin: Option<SocketAddr>,
    admin_origin: &Origin,
    probe: &dyn Fn(&ListenAddr) -> Result<(), String>,
    mistakes: &mut Mistakes,
) {
    for draft in drafts.iter().filter(|draft| draft.has_address) {
        if let Err(why) = probe(&draft.listener.listen) {
            mistakes.setting(Key::Listen, &draft.listen_origin, Some(&draft.site), why);
        }
    }
    if let Some(admin) = admin
        && let Err(why) = probe(&ListenAddr::Tcp(admin))
    {
        mistakes.setting(Key::Admin, admin_origin, None, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_overlap_with_every_address_of_their_family() {
        let tcp = |text: &str| ListenAddr::Tcp(text.parse().unwrap());
        for (a, b, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "0.0.0.0:1", true),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", true),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            assert_eq!(overlap(&tcp(a), &tcp(b)), expected, "{a} {b}");
            assert_eq!(overlap(&tcp(b), &tcp(a)), expected, "{b} {a}");
        }
        assert!(overlap(&ListenAddr::Unix("/a".into()), &ListenAddr::Unix("/a".into())));
        assert!(!overlap(&ListenAddr::Unix("/a".into()), &tcp("0.0.0.0:1")));
    }
}
