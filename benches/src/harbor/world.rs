//! All that the fake keeps, and what is to go wrong.

use std::collections::BTreeMap;

use super::images::Images;

/// Harbor's components.
const COMPONENTS: [&str; 8] = ["core", "portal", "jobservice", "registry", "registryctl", "database", "redis", "trivy"];

/// The state, and the faults. Tests change it as they like.
#[derive(Debug)]
pub struct World {
    /// Of `admin`.
    pub password: String,
    /// By age.
    pub projects: Vec<Project>,
    /// By age.
    pub robots: Vec<Robot>,
    /// Collections of garbage, and how they stand.
    pub collections: Vec<(i64, String)>,
    /// Each component, and what ails it.
    pub health: Vec<(String, Option<String>)>,
    /// So many times `/health` says that nobody has looked yet.
    pub starting: usize,
    /// How collections end.
    pub collection: Collection,
    /// What goes wrong next.
    pub faults: Vec<Fault>,
    /// Anybody may pull.
    pub open: bool,
    /// Blobs change on their way.
    pub corrupt: bool,
    /// Blobs come from a bucket, by a redirect.
    pub bucket: bool,
    /// In place of its own.
    pub realm: Option<String>,
    /// In front of the path where uploads go; `HOST` in it is its own.
    pub location: Option<String>,
    /// Only administrators create projects, and nobody is one.
    pub closed: bool,
    /// `getcert` tells this.
    pub authority: Option<String>,
    /// `METHOD /path status`, without queries.
    pub log: Vec<String>,
    pub(super) images: Images,
    next: i64,
}

/// How collections of garbage end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Collection {
    /// As they should.
    #[default]
    Success,
    /// The job fails.
    Error,
    /// Well, but its log cannot be read.
    NoLog,
    /// Never: nobody takes the job from the queue.
    Stuck,
    /// Another one is running, and ends well.
    Busy,
}

/// A request that is answered with an error.
#[derive(Clone, Debug)]
pub struct Fault {
    /// `GET` …
    pub method: &'static str,
    /// In the path.
    pub path: &'static str,
    /// What is answered.
    pub status: u16,
    /// Harbor's own words.
    pub message: String,
    /// So many times.
    pub times: usize,
}

/// A project.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Anybody may pull.
    pub public: bool,
    /// RFC 3339.
    pub created: String,
    /// By name, without the project's.
    pub repositories: BTreeMap<String, Vec<Artifact>>,
}

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// `sha256:…`.
    pub digest: String,
    /// Its tags.
    pub tags: Vec<String>,
}

/// A robot account.
#[derive(Clone, Debug)]
pub struct Robot {
    /// Its number.
    pub id: i64,
    /// The whole one: `robot$p+name`.
    pub name: String,
    /// Told once.
    pub secret: String,
    /// Of this project; of the system.
    pub project: Option<i64>,
    /// Where and what.
    pub permissions: Vec<Permission>,
    /// Switched off.
    pub disabled: bool,
    /// Seconds since 1970; -1 for never.
    pub expires_at: i64,
}

/// What a robot may do in a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Its name, or `*`.
    pub project: String,
    /// `pull`, `push`.
    pub actions: Vec<String>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Nobody,
    Admin,
    /// By number.
    Robot(i64),
    /// With a login that is wrong.
    Stranger,
}

impl World {
    pub(super) fn new(password: &str) -> Self {
        Self {
            password: password.to_owned(),
            projects: Vec::new(),
            robots: Vec::new(),
            collections: Vec::new(),
            health: COMPONENTS.iter().map(|name| ((*name).to_owned(), None)).collect(),
            starting: 0,
            collection: Collection::default(),
            faults: Vec::new(),
            open: false,
            corrupt: false,
            bucket: false,
            realm: None,
            location: None,
            closed: false,
            authority: None,
            log: Vec::new(),
            images: Images::default(),
            next: 1,
        }
    }

    /// A number that nothing else has.
    pub(super) const fn number(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    /// A project that is there already.
    pub fn add_project(&mut self, name: &str, public: bool, created: &str) -> i64 {
        let id = self.number();
        let repositories = BTreeMap::new();
        self.projects.push(Project { id, name: name.to_owned(), public, created: created.to_owned(), repositories });
        id
    }

    /// Something ails a component.
    pub fn ails(&mut self, component: &str, error: &str) {
        for (name, ailment) in &mut self.health {
            if name == component {
                *ailment = Some(error.to_owned());
            }
        }
    }

    /// A fault for the next matching request.
    pub fn fault(&mut self, method: &'static str, path: &'static str, status: u16, message: &str) {
        self.faults.push(Fault { method, path, status, message: message.to_owned(), times: 1 });
    }

    pub(super) fn project(&mut self, name_or_id: &str) -> Option<&mut Project> {
        self.projects.iter_mut().find(|project| project.name == name_or_id || project.id.to_string() == name_or_id)
    }

    pub(super) fn take_fault(&mut self, method: &str, path: &str) -> Option<Fault> {
        let found = self.faults.iter_mut().find(|fault| fault.times > 0 && fault.method == method && path.contains(fault.path))?;
        found.times -= 1;
        Some(found.clone())
    }

    /// `now` in seconds since 1970.
    pub(super) fn caller(&self, login: Option<(&str, &str)>, now: i64) -> Caller {
        let Some((user, password)) = login else { return Caller::Nobody };
        if user == "admin" && password == self.password {
            return Caller::Admin;
        }
        let is_it = |robot: &&Robot| {
            let lives = !robot.disabled && (robot.expires_at == -1 || robot.expires_at > now);
            robot.name == user && robot.secret == password && lives
        };
        self.robots.iter().find(is_it).map_or(Caller::Stranger, |robot| Caller::Robot(robot.id))
    }

    /// What the caller may do with `project/repository`, of what is asked for.
    pub(super) fn may(&self, caller: &Caller, repository: &str, asked: &[&str]) -> Vec<String> {
        let Some((project, _)) = repository.split_once('/') else { return Vec::new() };
        let Some(project) = self.projects.iter().find(|candidate| candidate.name == project) else { return Vec::new() };
        let robot = |id: &i64| self.robots.iter().find(|robot| robot.id == *id);
        let allowed = |action: &str| match caller {
            Caller::Admin => true,
            Caller::Robot(id) if robot(id).is_some_and(|robot| robot.may(&project.name, action)) => true,
            _ => action == "pull" && (project.public || self.open),
        };
        asked.iter().filter(|action| allowed(action)).map(|action| (*action).to_owned()).collect()
    }
}

impl Robot {
    fn may(&self, project: &str, action: &str) -> bool {
        let here = self.permissions.iter().filter(|permission| permission.project == "*" || permission.project == project);
        here.flat_map(|permission| &permission.actions).any(|allowed| allowed == action)
    }
}
