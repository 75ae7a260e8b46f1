//! Passwords from the environment, and whose they are.

use secrecy::SecretString;

use super::layers::View;
use super::mistakes::Mistakes;
use super::settings::Key;
use super::types::Protocol;
use super::url::Url;
use super::{CLIENT_PASSWORD_ENV, Env, PASSWORD_ENV, Wanted};

/// What the environment holds for one listener.
pub(super) struct Secrets<'a> {
    /// From [`CLIENT_PASSWORD_ENV`].
    pub(super) client: Option<SecretString>,
    /// From [`PASSWORD_ENV`], when it is for this listener.
    pub(super) upstream: Option<SecretString>,
    /// Reads what `password_env` names.
    pub(super) env: Env<'a>,
}

impl<'a> Secrets<'a> {
    /// One per listener, in order. The upstream's password goes to the only listener that needs one, or to nobody.
    pub(super) fn assign(
        env: Env<'a>,
        wanted: &[Wanted],
        views: &[View<'_>],
        mistakes: &mut Mistakes,
        warnings: &mut Vec<String>,
    ) -> Vec<Self> {
        let read = |name: &str| env(name).filter(|text| !text.is_empty()).map(SecretString::from);
        let (client, upstream) = (read(CLIENT_PASSWORD_ENV), read(PASSWORD_ENV));
        let asks = |view: &View<'_>| view.word(Key::ClientAuth) == "password";
        if client.is_some() && !views.is_empty() && !views.iter().any(asks) {
            warnings.push(format!("{CLIENT_PASSWORD_ENV} is set, but no listener asks clients for it; set client_auth to password"));
        }
        let owner = if upstream.is_some() { owner(wanted, views, mistakes, warnings) } else { None };
        let one = |index| Self { client: client.clone(), upstream: upstream.clone().filter(|_| owner == Some(index)), env };
        (0..wanted.len()).map(one).collect()
    }
}

/// Which listener [`PASSWORD_ENV`] belongs to: the one whose URL names a user without a password; failing that, the only Redis without
/// any login, for servers that have a password and no users.
fn owner(wanted: &[Wanted], views: &[View<'_>], mistakes: &mut Mistakes, warnings: &mut Vec<String>) -> Option<usize> {
    let which = |fits: fn(&View<'_>, &Url) -> bool| -> Vec<usize> {
        let pairs = wanted.iter().zip(views).enumerate();
        pairs.filter(|(_, (wanted, view))| !wanted.url.is_stand_in && fits(view, &wanted.url)).map(|(index, _)| index).collect()
    };
    let mut owners = which(lacks_password);
    if owners.is_empty() {
        owners = which(may_take_password);
    } else if owners.len() > 1 {
        let what = format!("is one password and {} listeners need one; give each its own password_file or password_env", owners.len());
        mistakes.elsewhere(PASSWORD_ENV, what);
    }
    match owners.as_slice() {
        [one] => Some(*one),
        _ => {
            if !wanted.iter().any(|wanted| wanted.url.is_stand_in) {
                warnings.push(format!("{PASSWORD_ENV} is set, but it is not clear for which listener; name it with password_env"));
            }
            None
        }
    }
}

/// The URL names a user whose password is nowhere.
fn lacks_password(view: &View<'_>, url: &Url) -> bool {
    url.user.is_some() && has_no_password(view, url)
}

/// A Redis password alone, without a user, could be used.
fn may_take_password(view: &View<'_>, url: &Url) -> bool {
    url.protocol == Protocol::Redis && has_no_password(view, url) && view.word(Key::ClientAuth) != "upstream"
}

fn has_no_password(view: &View<'_>, url: &Url) -> bool {
    url.password.is_none() && !view.is_given(Key::PasswordFile) && !view.is_given(Key::PasswordEnv)
}
