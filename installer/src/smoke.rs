//! Whether Harbor works, by using it: a small image is pushed and pulled as docker would, and a garbage collection looks for what it could delete.
//!
//! Each check goes through parts that the others do not: `/health` is Harbor's own opinion, a push needs the registry, Redis, PostgreSQL and the
//! bucket, a collection needs the job queue, and its log is written by jobservice and read by core through the database. Everything is done in a
//! project of its own, by a robot account of its own, and taken away again; what an interrupted run has left is taken away by a later one.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::jiff::Timestamp;
use reqwest::StatusCode;
use tokio::time::Instant;

use crate::harbor::projects::Project;
use crate::harbor::reach::Reachable;
use crate::harbor::robots::{Reach, Wanted};
use crate::harbor::{Harbor, Login};
use crate::progress::Progress;
use crate::registry::Registry;
use crate::registry::image::Image;

mod report;

pub use report::{Check, Kept, Report, State};
use report::{Checks, make};

/// What projects of smoke tests are called, with letters behind it.
pub const PREFIX: &str = "doks-harbor-smoke-";
const REPOSITORY: &str = "image";
const TAG: &str = "smoke";
/// Of a run that is at work, nothing is a leftover.
const LEFTOVER: Duration = Duration::from_secs(3600);
/// For Harbor to look at itself after its start.
const FIRST_LOOK: Duration = Duration::from_secs(30);
/// A push whose end was not waited for may still be under way while its project is deleted.
const LATE_PUSH: Duration = Duration::from_secs(10);
/// Of a pulled blob.
const LARGEST_BLOB: usize = 1 << 20;

/// One test.
pub struct Smoke<'a> {
    at: &'a Reachable,
    harbor: Harbor,
    progress: &'a Progress,
    /// For the collection.
    patience: Duration,
    project: String,
}

impl<'a> Smoke<'a> {
    /// By this login, which must be an administrator's for the collection. Nothing happens yet.
    #[must_use]
    pub fn new(at: &'a Reachable, login: Login, progress: &'a Progress, patience: Duration) -> Self {
        let letters: String = std::iter::repeat_with(fastrand::lowercase).take(8).collect();
        Self { at, harbor: at.harbor.as_user(Some(login)), progress, patience, project: format!("{PREFIX}{letters}") }
    }

    /// What is left when nothing is cleaned up.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let image = format!("{}/{}/{REPOSITORY}:{TAG}", self.at.registry, self.project);
        Kept { project: self.project.clone(), image }
    }

    /// All checks but the clean-up. What fails is in them. When this is dropped half-way, [`Self::clean`] still takes everything away.
    pub async fn run(&self) -> Vec<Check> {
        let mut checks = Checks::new(self.progress);
        let answers =
            checks.step("answers", "look at the address, at the ingress or load balancer, and at nginx and core", self.answers()).await;
        if answers.is_none() {
            return checks.skip(&["health", "login", "project", "robot", "push", "pull", "closed", "database", "queue", "log"]);
        }
        checks.step("health", "look at that component's logs; `doks-harbor doctor` looks at what it depends on", self.health()).await;
        if checks
            .step("login", "write the current password into the keyring, or say --user and --password-file", self.login())
            .await
            .is_none()
        {
            return checks.skip(&["project", "robot", "push", "pull", "closed", "database", "queue", "log"]);
        }
        checks.quiet("leftovers", "delete them in Harbor's pages", self.leftovers()).await;
        self.images(&mut checks).await;
        self.jobs(&mut checks).await;
        checks.all
    }

    /// Project, robot, push and pull.
    async fn images(&self, checks: &mut Checks<'_>) {
        let cure = "only administrators may create projects, or the database does not take it: look at core's log";
        if checks.step("project", cure, self.create_project()).await.is_none() {
            checks.skip_more(&["robot", "push", "pull", "closed", "database"]);
            return;
        }
        let Some(robot) = checks.step("robot", "look at core's log", self.create_robot()).await else {
            checks.skip_more(&["push", "pull", "closed", "database"]);
            return;
        };
        let cure = "look at the registry's log: the bucket and its key, and Redis; is externalURL the address that clients use?";
        let registry = Registry::new(self.at, Some(robot));
        let Some(image) = checks.step("push", cure, self.push(&registry)).await else {
            checks.skip_more(&["pull", "closed", "database"]);
            return;
        };
        checks.step("pull", "look at the registry's log, and at the bucket", self.pull(&registry, &image)).await;
        let cure = "anybody can pull private images: look for a proxy in front of Harbor that adds a login or answers from a cache";
        checks.step("closed", cure, self.is_closed(&image)).await;
        checks
            .step("database", "core does not find what the registry has: look at core's log and at PostgreSQL", self.database(&image))
            .await;
    }

    /// The queue, and the log in the database.
    async fn jobs(&self, checks: &mut Checks<'_>) {
        let cure = "look at jobservice's log and at its Redis (database 1): `doks-harbor doctor`";
        let Some(run) = checks.step("queue", cure, self.collect()).await else {
            checks.skip_more(&["log"]);
            return;
        };
        let cure = "jobs must log into the database (jobLoggers: [database]), or their logs stay in one pod of jobservice";
        checks.step("log", cure, self.log(run)).await;
    }

    async fn answers(&self) -> Result<((), String)> {
        self.harbor.ping().await?;
        let trust = self.at.authority.as_ref().map_or_else(String::new, |authority| format!(", verified by {}", authority.source));
        let way = if self.at.forward.is_some() { " through the cluster" } else { "" };
        Ok(((), format!("{}{way}{trust}", self.at.registry)))
    }

    async fn health(&self) -> Result<((), String)> {
        let health = self.harbor.health_within(FIRST_LOOK).await?;
        ensure!(health.is_healthy(), "{health}");
        Ok(((), health.to_string()))
    }

    async fn login(&self) -> Result<((), String)> {
        let user = self.harbor.current_user().await?;
        let version = self.harbor.systeminfo().await.ok().and_then(|info| info.harbor_version);
        Ok(((), version.map_or_else(|| user.clone(), |version| format!("{user}, Harbor {version}"))))
    }

    /// Of runs that were killed: an hour old, by the name.
    async fn leftovers(&self) -> Result<((), String)> {
        let mut gone = Vec::new();
        for project in self.harbor.projects_like(PREFIX).await? {
            if project.name.starts_with(PREFIX) && is_old(&project, Timestamp::now()) {
                remove(&self.harbor, &project).await?;
                gone.push(project.name);
            }
        }
        Ok(((), if gone.is_empty() { String::new() } else { format!("of an interrupted run, deleted: {}", gone.join(", ")) }))
    }

    async fn create_project(&self) -> Result<((), String)> {
        self.harbor.create_project(&self.project).await?;
        Ok(((), format!("{}, private", self.project)))
    }

    async fn create_robot(&self) -> Result<(Login, String)> {
        let reach = Reach::Project(self.project.clone());
        let wanted = Wanted { name: "smoke", description: "doks-harbor smoke", reach: &reach, actions: &["pull", "push"], days: Some(1) };
        let robot = self.harbor.create_robot(&wanted).await?;
        let name = robot.login.user.clone();
        Ok((robot.login, name))
    }

    fn repository(&self) -> String {
        format!("{}/{REPOSITORY}", self.project)
    }

    async fn push(&self, registry: &Registry) -> Result<(Image, String)> {
        let image = Image::random()?;
        registry.push(&self.repository(), TAG, &image).await?;
        let told = format!("{} bytes as {}", image.layer.len(), image.digest());
        Ok((image, told))
    }

    async fn pull(&self, registry: &Registry, image: &Image) -> Result<((), String)> {
        let repository = self.repository();
        ensure!(registry.manifest(&repository, TAG).await? == image.manifest, "the manifest under the tag is another one");
        ensure!(registry.manifest(&repository, &image.digest()).await? == image.manifest, "the manifest came back changed");
        for blob in image.blobs() {
            let pulled = registry.blob(&repository, &crate::registry::image::digest_of(blob), LARGEST_BLOB).await?;
            ensure!(pulled == blob, "a layer came back changed");
        }
        Ok(((), "the same bytes".to_owned()))
    }

    async fn is_closed(&self, image: &Image) -> Result<((), String)> {
        let wrong = Login { user: format!("robot${}+smoke", self.project), password: "not-the-secret".into() };
        for (how, login) in [("without a login", None), ("with a wrong secret", Some(wrong))] {
            match Registry::new(self.at, login).manifest(&self.repository(), &image.digest()).await {
                Ok(_) => bail!("the image of a private project can be pulled {how}: the registry is open to everybody"),
                Err(error) if error.is_refusal() || error.is_not_found() => {}
                Err(error) => return Err(error).with_context(|| format!("whether it can be pulled {how} is not known")),
            }
        }
        Ok(((), "no pull without a login, none with a wrong one".to_owned()))
    }

    async fn database(&self, image: &Image) -> Result<((), String)> {
        let artifacts = self.harbor.artifacts(&self.project, REPOSITORY).await?;
        let found = artifacts.iter().find(|artifact| artifact.digest == image.digest());
        let found = found.with_context(|| format!("the image is not among the {} artifacts of its repository", artifacts.len()))?;
        let is_tagged = found.tags.iter().flatten().any(|tag| tag.name == TAG);
        ensure!(is_tagged, "the artifact is there without its tag");
        Ok(((), "the artifact and its tag are there".to_owned()))
    }

    async fn collect(&self) -> Result<(i64, String)> {
        let own = self.harbor.start_dry_collection().await?;
        let id = match own {
            Some(id) => id,
            None => self.harbor.newest_collection().await?.context("Harbor says that a collection is running, and shows none")?.id,
        };
        let task = self.progress.task("garbage collection, dry run");
        let run = self.harbor.collection_over(id, Instant::now() + self.patience, |run| task.say(&run.job_status)).await?;
        let whose = if own.is_some() { "dry run" } else { "one that was running already" };
        match run.job_status.as_str() {
            "Success" => Ok((id, format!("{whose}, {}", run.job_status))),
            "Pending" | "Scheduled" => {
                bail!("nobody has taken the job from the queue within {} ({whose} {id})", humantime::format_duration(self.patience))
            }
            "Running" => bail!("it still runs after {} ({whose} {id}); say a longer --timeout", humantime::format_duration(self.patience)),
            other => bail!("the job has ended as {other:?} ({whose} {id}); its log is in Harbor's pages, under Clean Up"),
        }
    }

    async fn log(&self, run: i64) -> Result<((), String)> {
        let log = self.harbor.collection_log(run).await?;
        ensure!(!log.trim().is_empty(), "it is empty");
        Ok(((), format!("{} bytes, from the database", log.len())))
    }

    /// Takes everything away that [`Self::run`] has made, found by its name, so that an answer which was lost is no matter.
    pub async fn clean(&self) -> Check {
        let work = async {
            let Some(project) = self.harbor.project(&self.project).await? else { return Ok(((), "nothing is left".to_owned())) };
            remove(&self.harbor, &project).await?;
            Ok(((), format!("project {}, its robot and its image are deleted", project.name)))
        };
        let cure = format!("delete the project {} in Harbor's pages, or run smoke again in an hour", self.project);
        make(self.progress, "clean-up", &cure, work).await.0
    }
}

/// A project with all that is in it. Nothing but projects of ours comes here.
async fn remove(harbor: &Harbor, project: &Project) -> Result<()> {
    let deadline = Instant::now() + LATE_PUSH;
    for robot in harbor.robots(Some(project.id)).await? {
        harbor.delete_robot(robot.id).await?;
    }
    loop {
        for repository in harbor.repositories(&project.name).await? {
            harbor.delete_repository(&project.name, &repository).await?;
        }
        match harbor.delete_project(project.id).await {
            Err(error) if error.status() == Some(StatusCode::PRECONDITION_FAILED) && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            answer => return Ok(answer?),
        }
    }
}

/// By Harbor's clock and ours, which may differ by minutes.
fn is_old(project: &Project, now: Timestamp) -> bool {
    let created = project.creation_time.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
    created.is_some_and(|created| now.duration_since(created).as_secs() > i64::try_from(LEFTOVER.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_old_is_left_over() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let old = |time: Option<&str>| is_old(&Project { id: 1, name: String::new(), creation_time: time.map(str::to_owned) }, now);
        assert!(old(Some("2026-11-22T10:59:59.000Z")));
        assert!(!old(Some("2026-11-22T11:30:00.000Z")) && !old(Some("2026-11-22T12:10:00Z")));
        assert!(!old(None) && !old(Some("yesterday")));
    }
}
