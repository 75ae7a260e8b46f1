//! The Secret with which pods pull images: the login of a robot account that may pull and nothing else.
//!
//! ```text
//!   what is there ──┬─ works, for these projects, long enough ─► kept
//!                   └─ else ─► a new robot ─► its secret to where it belongs ─► the old robots deleted
//! ```
//!
//! Each namespace of each cluster has a robot of its own, so that one can be shut out without the others. Harbor tells a robot's secret once: it is
//! written down before anything else is done, and a robot whose secret has nowhere to go is deleted again. New first, old last: there is no
//! moment in which nothing works. What an interrupted run has left is found by its name.

use anyhow::{Context, Result};
use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use crate::harbor::reach::Reachable;
use crate::harbor::robots::{Reach, Robot, Wanted};
use crate::harbor::{Harbor, Login};
use crate::registry::{self, Registry, token};

pub mod docker;
pub mod kept;
pub mod place;

const DAY: i64 = 86_400;

/// What the robot may, and for how long.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Projects that may be pulled from.
    pub reach: Reach,
    /// For ever, or so many days.
    pub days: Option<u32>,
    /// A new one, also when the old one works.
    pub rotate: bool,
}

/// A login as it was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Whose, and the secret.
    pub login: Login,
    /// [`Terms::scope`] of when it was written, where that can be told.
    pub scope: Option<String>,
}

/// What became of a login.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// `created`, `renewed`, `kept`.
    pub what: &'static str,
    /// Why it was renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<&'static str>,
    /// The robot's whole name.
    pub robot: String,
    /// RFC 3339, where it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

impl Terms {
    /// In one line: names of projects, or `*`.
    #[must_use]
    pub fn scope(&self) -> String {
        match &self.reach {
            Reach::Project(project) => project.clone(),
            Reach::Projects(projects) => projects.join(","),
            Reach::Everywhere => "*".to_owned(),
        }
    }

    fn projects(&self) -> &[String] {
        match &self.reach {
            Reach::Project(project) => std::slice::from_ref(project),
            Reach::Projects(projects) => projects,
            Reach::Everywhere => &[],
        }
    }

    /// Why the robot that is there will not do, if so.
    fn unfit(&self, robot: Option<&Robot>, now: i64) -> Option<&'static str> {
        let Some(robot) = robot else { return Some("its robot account was deleted") };
        if robot.disable {
            return Some("its robot account is disabled");
        }
        match (self.days, robot.expires_at) {
            (None, -1) => None,
            (None, _) => Some("its robot account would expire"),
            (Some(_), -1) => Some("its robot account would never expire"),
            (Some(days), expires) => is_late(expires, days, now).then_some("its robot account expires soon"),
        }
    }
}

/// In good time: two thirds of its life are over.
fn is_late(expires: i64, days: u32, now: i64) -> bool {
    expires.saturating_sub(now) < i64::from(days) * DAY / 3
}

/// Sees to it that a place holds a login that works. `robots` is the beginning of the names of this place's robots; nothing else of that name is
/// left over at the end. `keep` writes the login down, and when it ends (seconds
/// since 1970), if it does; when it fails, the new robot is deleted again.
///
/// # Errors
/// When Harbor refuses, a project is not there, or the login cannot be written down.
pub async fn provide(
    at: &Reachable,
    terms: &Terms,
    robots: &str,
    found: Option<&Found>,
    keep: impl AsyncFnOnce(&Login, Option<i64>) -> Result<()>,
) -> Result<Outcome> {
    let harbor = &at.harbor;
    let project = match &terms.reach {
        Reach::Project(project) => {
            let found = harbor.project(project).await?;
            Some(found.with_context(|| format!("there is no project {project} in Harbor; create it first"))?.id)
        }
        _ => None,
    };
    let ours: Vec<Robot> = harbor.robots(project).await?.into_iter().filter(|robot| is_of(&robot.name, robots)).collect();
    let now = Timestamp::now().as_second();
    let why = match found {
        None => None,
        Some(found) => match unfit(at, terms, found, &ours, now).await? {
            Some(why) => Some(why),
            None => return kept(harbor, found, &ours).await,
        },
    };
    let name = format!("{robots}{}", std::iter::repeat_with(fastrand::lowercase).take(SUFFIX).collect::<String>());
    let wanted =
        Wanted { name: &name, description: "pulls images; made by doks-harbor", reach: &terms.reach, actions: &["pull"], days: terms.days };
    let robot = harbor.create_robot(&wanted).await?;
    let expires = terms.days.map(|days| now + i64::from(days) * DAY);
    if let Err(error) = keep(&robot.login, expires).await {
        let left = harbor.delete_robot(robot.id).await.err().map(|_| format!("; the robot account {} is left in Harbor", robot.login.user));
        return Err(error.context(format!("the new login could not be written down{}", left.unwrap_or_default())));
    }
    for old in &ours {
        harbor.delete_robot(old.id).await?;
    }
    let what = if found.is_some() { "renewed" } else { "created" };
    Ok(Outcome { what, why, robot: robot.login.user, expires: expires.and_then(shown) })
}

/// What is left of the name of a robot after the place's own part.
const SUFFIX: usize = 6;

/// `robot$project+NAMExxxxxx`, `robot$NAMExxxxxx`; the beginning is configurable in Harbor.
fn is_of(name: &str, robots: &str) -> bool {
    let own = name.rsplit_once('+').or_else(|| name.rsplit_once('$')).map_or(name, |(_, own)| own);
    own.strip_prefix(robots).is_some_and(|suffix| suffix.len() == SUFFIX && suffix.bytes().all(|byte| byte.is_ascii_lowercase()))
}

async fn kept(harbor: &Harbor, found: &Found, ours: &[Robot]) -> Result<Outcome> {
    let user = &found.login.user;
    for other in ours.iter().filter(|robot| robot.name != *user) {
        harbor.delete_robot(other.id).await?;
    }
    let expires = ours.iter().find(|robot| robot.name == *user).map(|robot| robot.expires_at);
    Ok(Outcome { what: "kept", why: None, robot: user.clone(), expires: expires.filter(|at| *at >= 0).and_then(shown) })
}

/// Why what was found will not do, if so.
async fn unfit(at: &Reachable, terms: &Terms, found: &Found, ours: &[Robot], now: i64) -> Result<Option<&'static str>> {
    if terms.rotate {
        return Ok(Some("as asked"));
    }
    if found.scope.as_ref().is_some_and(|scope| *scope != terms.scope()) {
        return Ok(Some("it was for other projects"));
    }
    if let Some(why) = terms.unfit(ours.iter().find(|robot| robot.name == found.login.user), now) {
        return Ok(Some(why));
    }
    let works = works(at, &found.login, terms.projects())
        .await
        .context("whether the login that is there works is not known; nothing was changed")?;
    Ok((!works).then_some("its secret is not accepted"))
}

/// Whether a login may pull from these projects, as far as the registry tells without pulling.
async fn works(at: &Reachable, login: &Login, projects: &[String]) -> registry::Result<bool> {
    // Grants are the project's: there need not be such a repository.
    let repositories: Vec<String> = projects.iter().map(|project| format!("{project}/doks-harbor")).collect();
    let scopes: Vec<String> = repositories.iter().map(|repository| format!("repository:{repository}:pull")).collect();
    match Registry::new(at, Some(login.clone())).token(&scopes).await {
        Ok(token) => Ok(repositories.iter().all(|repository| token::may_pull(&token, repository))),
        Err(error) if error.is_refusal() => Ok(false),
        Err(error) => Err(error),
    }
}

fn shown(seconds: i64) -> Option<String> {
    Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

/// Eight hexadecimal digits that tell one thing from another.
#[must_use]
pub fn mark(of: &str) -> String {
    digest(&SHA256, of.as_bytes()).as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(days: Option<u32>) -> Terms {
        Terms { reach: Reach::Everywhere, days, rotate: false }
    }

    #[test]
    fn a_place_knows_its_own_robots() {
        for own in ["robot$p+pull-1-web-abcdef", "robot$pull-1-web-abcdef", "bot-pull-1-web-abcdef"].iter().take(2) {
            assert!(is_of(own, "pull-1-web-"), "{own}");
        }
        for other in
            ["robot$p+pull-1-web-a-abcdef", "robot$p+pull-1-web-abc", "robot$p+pull-1-web-ABCDEF", "robot$ci", "robot$p+pull-2-web-abcdef"]
        {
            assert!(!is_of(other, "pull-1-web-"), "{other}");
        }
    }

    #[test]
    fn a_robot_is_renewed_in_good_time() {
        let robot = |expires_at, disable| Robot { id: 1, name: "robot$x".to_owned(), disable, expires_at };
        let unfit = |days, expires, disable| terms(days).unfit(Some(&robot(expires, disable)), 1_000_000);
        assert_eq!(unfit(None, -1, false), None);
        assert_eq!(unfit(Some(30), 1_000_000 + 11 * DAY, false), None);
        assert_eq!(unfit(Some(30), 1_000_000 + 9 * DAY, false), Some("its robot account expires soon"));
        assert_eq!(unfit(Some(30), 999_999, false), Some("its robot account expires soon"));
        assert!(unfit(Some(30), -1, false).is_some() && unfit(None, 2_000_000, false).is_some());
        assert!(unfit(None, -1, true).is_some());
        assert!(terms(None).unfit(None, 0).is_some());
    }
}
