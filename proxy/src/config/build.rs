//! One listener: from its URL and its layers to the checked [`Listener`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use secrecy::SecretString;

use super::layers::View;
use super::mistakes::{Mistakes, Origin, Site};
use super::pool;
use super::secrets::Secrets;
use super::settings::Key;
use super::types::{ClientAuth, Credentials, ListenAddr, ListenTls, Listener, Password, Protocol, Upstream, UpstreamTls};
use super::url::Url;
use super::value::Value;

/// A listener, to be used only if no mistake was reported, and what messages about it need.
pub(super) struct Draft {
    pub(super) listener: Listener,
    pub(super) site: Site,
    pub(super) listen_origin: Origin,
    pub(super) name_origin: Origin,
    /// Its address is as the user meant it, not a stand-in for something wrong.
    pub(super) has_address: bool,
    /// So is its name.
    pub(super) has_name: bool,
}

/// Builds one listener; what is wrong goes to `mistakes` and is replaced by something harmless, so that the rest is looked at too.
pub(super) fn listener(view: &View<'_>, site: &Site, url: &Url, secrets: &Secrets<'_>, mistakes: &mut Mistakes) -> Draft {
    let protocol = url.protocol;
    let (listen, listen_origin, has_address) = match listen(view, url, mistakes) {
        // A default depends on the URL.
        Ok((address, origin)) => {
            let is_meant = !url.is_stand_in || origin != Origin::Default;
            (address, origin, is_meant)
        }
        Err(stand_in) => (stand_in, Origin::Default, false),
    };
    let name = view.find(Key::Name);
    let name_origin = name.as_ref().map_or(Origin::Default, |name| name.origin.clone());
    let credentials = credentials(view, url, secrets, mistakes);
    let listen_tls = listen_tls(view, mistakes);
    let pool = pool::pool(view, protocol, mistakes);
    let client_auth = if pool::logs_in(protocol, pool.mode) {
        if credentials.is_none() && url.user.is_none() && lacks_password(view, url, secrets) {
            let what = format!(
                "`{}` needs a login of the proxy's own; put a user before the host and give its password, or use relay",
                pool.mode.name()
            );
            view.mistake(mistakes, Key::Pool, what);
        }
        let what = format!("cannot be upstream, as the connections of `{}` are logged in already; use password", pool.mode.name());
        client_auth(view, url, true, secrets.client.clone(), &what, mistakes)
    } else {
        let what = "is upstream, so the clients log in themselves; remove the user from the URL and the password that goes with it";
        client_auth(view, url, credentials.is_some(), secrets.client.clone(), what, mistakes)
    };
    must_be_guarded(view, &listen, &client_auth, listen_tls.as_ref(), mistakes);
    let listener = Listener {
        name: view.text(Key::Name).unwrap_or_else(|| default_name(protocol, &listen)),
        protocol,
        listen,
        pool,
        client_auth,
        listen_tls,
        max_clients: view.count(Key::MaxClients),
        idle_timeout: view.duration(Key::IdleTimeout),
        tcp_keepalive: view.duration(Key::TcpKeepalive),
        tcp_user_timeout: view.duration(Key::TcpUserTimeout),
        upstream: Upstream {
            host: url.host.clone(),
            port: url.port,
            database: url.database.clone(),
            credentials,
            tls: upstream_tls(view, mistakes),
            connect_timeout: view.duration(Key::ConnectTimeout),
            direct_tls: direct_tls(view, protocol, mistakes),
        },
    };
    let has_name = !view.is_broken(Key::Name) && (has_address || view.is_given(Key::Name));
    Draft { listener, site: site.clone(), listen_origin, name_origin, has_address, has_name }
}

/// The address and where it was given; without one, the mistake is reported and any address stands in.
fn listen(view: &View<'_>, url: &Url, mistakes: &mut Mistakes) -> Result<(ListenAddr, Origin), ListenAddr> {
    match view.find(Key::Listen).map(|found| (found.value, found.origin)) {
        Some((Value::Listen(address), origin)) if !view.is_broken(Key::Listen) => return Ok((address, origin)),
        None if !view.is_broken(Key::Listen) && !url.is_stand_in => {
            let like = view.spell(Key::Listen, &format!("127.0.0.1:{}", url.port));
            view.mistake(mistakes, Key::Listen, format!("is missing, and tls:// has no default; say {like}"));
        }
        _ => {}
    }
    Err(ListenAddr::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)))
}

/// Protocol and port, or protocol and the socket's file name.
fn default_name(protocol: Protocol, listen: &ListenAddr) -> String {
    match listen {
        ListenAddr::Tcp(address) => format!("{}-{}", protocol.name(), address.port()),
        ListenAddr::Unix(path) => {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let fits = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' };
            format!("{}-{}", protocol.name(), stem.chars().take(40).map(fits).collect::<String>())
        }
    }
}

fn credentials(view: &View<'_>, url: &Url, secrets: &Secrets<'_>, mistakes: &mut Mistakes) -> Option<Credentials> {
    let site = view.site?;
    let (file, env) = (view.path(Key::PasswordFile), view.text(Key::PasswordEnv));
    if file.is_some() && (env.is_some() || url.password.is_some()) {
        view.mistake(mistakes, Key::PasswordFile, "is a second password; keep one of URL, password_file and password_env");
    } else if env.is_some() && url.password.is_some() {
        view.mistake(mistakes, Key::PasswordEnv, "is a second password; keep one of URL, password_file and password_env");
    }
    let mut password = url.password.clone().or_else(|| secrets.upstream.clone()).map(Password::Inline);
    if let Some(path) = file {
        password = Some(Password::File(path));
    } else if let Some(name) = env {
        let value = (secrets.env)(&name).filter(|value| !value.is_empty());
        if value.is_none() {
            // The name is not repeated: it may be the password, put in the wrong place.
            view.mistake(mistakes, Key::PasswordEnv, "names a variable that is not set, or empty; set it to the upstream's password");
        }
        password = Some(Password::Inline(SecretString::from(value.unwrap_or_default())));
    }
    match (url.protocol, &url.user, password) {
        (_, None, None) => None,
        // Given for all listeners, for the others of them: see `cross::useless`.
        (Protocol::Tls, None, _) if !view.is_own(Key::PasswordFile) && !view.is_own(Key::PasswordEnv) && url.password.is_none() => None,
        (Protocol::Tls, ..) => {
            mistakes.site(site, None, "has a login, and tls:// passes bytes without logging in; remove user and password");
            None
        }
        (_, Some(_), None) if view.is_broken(Key::PasswordFile) || view.is_broken(Key::PasswordEnv) => None,
        (protocol, Some(_), None) => {
            let may_pass = protocol == Protocol::Postgres && view.word(Key::Pool) == "relay";
            let or = if may_pass { ", or remove the user to let the clients' own logins pass through" } else { "" };
            mistakes.site(
                site,
                None,
                format!("has a user but no password; add password_file or password_env, or set REDIS_TLS_PROXY_PASSWORD{or}"),
            );
            None
        }
        (Protocol::Postgres, None, Some(_)) if !url.is_stand_in => {
            mistakes.site(site, None, "has no user, and PostgreSQL needs one with the password; say postgresql://USER@HOST");
            None
        }
        (_, user, Some(password)) => Some(Credentials { user: user.clone(), password }),
    }
}

/// No password is given anywhere: with one, and no user, that is the mistake to report.
fn lacks_password(view: &View<'_>, url: &Url, secrets: &Secrets<'_>) -> bool {
    let is_given = view.is_given(Key::PasswordFile) || view.is_given(Key::PasswordEnv) || url.password.is_some();
    !is_given && secrets.upstream.is_none() && !url.is_stand_in
}

fn client_auth(
    view: &View<'_>,
    url: &Url,
    logs_in: bool,
    from_env: Option<SecretString>,
    not_upstream: &str,
    mistakes: &mut Mistakes,
) -> ClientAuth {
    let file = view.path(Key::ClientPasswordFile);
    let mut wrong = |what: String| view.mistake(mistakes, Key::ClientAuth, what);
    match view.word(Key::ClientAuth) {
        "password" => {
            if url.protocol == Protocol::Tls {
                wrong("cannot be password for tls://, whose protocol the proxy does not know; use listen_client_ca".to_owned());
            }
            if url.protocol == Protocol::Postgres && !logs_in && !url.is_stand_in {
                wrong("is password, so the proxy has to log in itself; put a user before the host and give its password".to_owned());
            }
            match (file, from_env) {
                (Some(path), _) => ClientAuth::Password(Password::File(path)),
                (None, Some(password)) => ClientAuth::Password(Password::Inline(password)),
                (None, None) => {
                    wrong(format!(
                        "is password, but there is none; say {} or set REDIS_TLS_PROXY_CLIENT_PASSWORD",
                        view.spell(Key::ClientPasswordFile, "FILE")
                    ));
                    ClientAuth::None
                }
            }
        }
        "upstream" => {
            if url.protocol == Protocol::Tls {
                wrong("cannot be upstream for tls://, whose protocol the proxy does not know; use listen_client_ca".to_owned());
            } else if logs_in {
                wrong(not_upstream.to_owned());
            }
            ClientAuth::Upstream
        }
        _ => {
            if file.is_some() && !view.is_given(Key::ClientAuth) {
                let cure = view.spell(Key::ClientAuth, "password");
                view.mistake(mistakes, Key::ClientPasswordFile, format!("is given, but nothing asks clients for it; say {cure}"));
            }
            ClientAuth::None
        }
    }
}

fn listen_tls(view: &View<'_>, mistakes: &mut Mistakes) -> Option<ListenTls> {
    let pair = pair(view, Key::ListenCert, Key::ListenKey, mistakes);
    let client_ca = view.path(Key::ListenClientCa);
    if pair.is_none() && client_ca.is_some() {
        let cure = format!("{} and {}", view.spell(Key::ListenCert, "FILE"), view.spell(Key::ListenKey, "FILE"));
        view.mistake(mistakes, Key::ListenClientCa, format!("needs TLS from clients; say {cure}"));
    }
    pair.map(|(cert, key)| ListenTls { cert, key, client_ca })
}

fn pair(view: &View<'_>, cert: Key, key: Key, mistakes: &mut Mistakes) -> Option<(std::path::PathBuf, std::path::PathBuf)> {
    match (view.path(cert), view.path(key)) {
        (Some(cert), Some(key)) => return Some((cert, key)),
        (Some(_), None) => view.mistake(mistakes, cert, format!("has no key; say {}", view.spell(key, "FILE"))),
        (None, Some(_)) => view.mistake(mistakes, key, format!("has no certificate; say {}", view.spell(cert, "FILE"))),
        (None, None) => {}
    }
    None
}

fn upstream_tls(view: &View<'_>, mistakes: &mut Mistakes) -> UpstreamTls {
    let (ca_file, ca_only) = (view.path(Key::CaFile), view.switch(Key::CaOnly));
    if ca_only && ca_file.is_none() {
        view.mistake(mistakes, Key::CaOnly, format!("would trust nothing; say {}", view.spell(Key::CaFile, "FILE")));
    }
    UpstreamTls {
        ca_file,
        ca_only,
        server_name: view.text(Key::ServerName),
        client_cert: pair(view, Key::ClientCert, Key::ClientKey, mistakes),
        tls13_only: view.word(Key::TlsMin) == "1.3",
        post_quantum: view.switch(Key::PostQuantum),
    }
}

fn direct_tls(view: &View<'_>, protocol: Protocol, mistakes: &mut Mistakes) -> bool {
    let wanted = view.switch(Key::DirectTls);
    // Given for all listeners it is meant for those that can use it: see `cross::useless`.
    if wanted && protocol != Protocol::Postgres && view.is_own(Key::DirectTls) {
        view.mistake(mistakes, Key::DirectTls, "is for postgresql:// only, the others always start with TLS; remove it");
    }
    wanted && protocol == Protocol::Postgres
}

/// Anyone on the network could use the database with the proxy's login: that has to be asked for.
fn must_be_guarded(view: &View<'_>, listen: &ListenAddr, auth: &ClientAuth, tls: Option<&ListenTls>, mistakes: &mut Mistakes) {
    let ListenAddr::Tcp(address) = listen else { return };
    let guarded = !matches!(auth, ClientAuth::None) || tls.is_some_and(|tls| tls.client_ca.is_some());
    let wish_failed = view.word(Key::ClientAuth) != "none"
        || [Key::ClientAuth, Key::ListenClientCa, Key::UnsafeListen].iter().any(|key| view.is_broken(*key));
    if address.ip().to_canonical().is_loopback() || guarded || wish_failed || view.switch(Key::UnsafeListen) {
        return;
    }
    let (password, ca, open) =
        (view.spell(Key::ClientAuth, "password"), view.spell(Key::ListenClientCa, "FILE"), view.spell(Key::UnsafeListen, "on"));
    view.mistake(
        mistakes,
        Key::Listen,
        format!("{address} can be reached from other machines, and clients need no login; say {password}, {ca}, or {open}"),
    );
}
