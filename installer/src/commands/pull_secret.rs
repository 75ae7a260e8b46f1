//! `pull-secret`.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use secrecy::ExposeSecret;
use serde::Serialize;

use super::{DONE, Interrupted, cluster, read_spec, say, show, unless_interrupted};
use crate::cli;
use crate::cli::Shared;
use crate::cluster::{Access, Cluster};
use crate::harbor::reach::Reachable;
use crate::harbor::robots::Reach;
use crate::progress::Progress;
use crate::pull_secret::place::{File, Room};
use crate::pull_secret::{Outcome, Terms, docker, mark, provide};

#[derive(Serialize)]
struct Report {
    /// As in an image's name.
    registry: String,
    /// `*`, or names with commas between them.
    projects: String,
    logins: Vec<Line>,
    /// What is still in the way.
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Line {
    /// `namespace/name`, or a file.
    place: String,
    #[serde(flatten)]
    outcome: Outcome,
    /// That were changed to use it.
    service_accounts: Vec<String>,
}

pub(super) async fn run(shared: &Shared, args: &cli::PullSecret) -> Result<u8> {
    let login = super::harbor::login(shared, &args.login).await?;
    let at = super::harbor::reachable(shared, &args.reach).await?.login(login);
    let reach = match (args.all_projects, args.project.as_slice()) {
        (true, _) => Reach::Everywhere,
        (false, [project]) => Reach::Project(project.clone()),
        (false, projects) => Reach::Projects(projects.to_vec()),
    };
    let terms = Terms { reach, days: args.days.0, rotate: args.rotate };
    let work = async {
        match &args.out {
            Some(file) => to_file(shared, &at, &terms, file).await,
            None => to_namespaces(shared, args, &at, &terms).await,
        }
    };
    match unless_interrupted(work).await {
        Some(report) => {
            if let Some(report) = report? {
                show(shared.output, &report)?;
            }
            Ok(DONE)
        }
        None => Err(Interrupted("run it again: it finishes what was begun, and deletes robot accounts that nobody uses").into()),
    }
}

/// Nothing to report where the login itself is the result.
async fn to_file(shared: &Shared, at: &Reachable, terms: &Terms, path: &Path) -> Result<Option<Report>> {
    if path == Path::new("-") {
        // Asked for in so many words.
        let written = async |login: &crate::harbor::Login, _| {
            say(docker::write(&at.registry, login).expose_secret());
            Ok(())
        };
        // Nobody knows who uses the ones before: they stay.
        let robots = format!("pull-printed-{}-", mark(&format!("{:032x}", fastrand::u128(..))));
        provide(at, terms, &robots, None, written).await?;
        return Ok(None);
    }
    let task = Progress::new(shared.quiet).task(&path.display().to_string());
    let file = File::at(path);
    let found = file.found(&at.registry)?;
    let outcome = provide(at, terms, &file.robots(), found.as_ref(), async |login, _| file.keep(&at.registry, login)).await?;
    task.done(outcome.what);
    let line = Line { place: path.display().to_string(), outcome, service_accounts: Vec::new() };
    Ok(Some(Report { registry: at.registry.clone(), projects: terms.scope(), logins: vec![line], notes: Vec::new() }))
}

async fn to_namespaces(shared: &Shared, args: &cli::PullSecret, at: &Reachable, terms: &Terms) -> Result<Option<Report>> {
    let cluster = any_cluster(shared).await?;
    let progress = Progress::new(shared.quiet);
    let rooms = Room::find(&cluster, &args.namespace, &args.service_account, &args.name).await?;
    let mut logins = Vec::new();
    for room in rooms {
        let task = progress.task(&room.path());
        let found = room.found(&at.registry).await?;
        let keep = async |login: &crate::harbor::Login, expires| room.keep(&at.registry, login, terms, expires).await;
        let outcome = provide(at, terms, &room.robots(), found.as_ref(), keep).await?;
        let mut service_accounts = Vec::new();
        for account in &args.service_account {
            if room.use_in(account).await? {
                service_accounts.push(account.clone());
            }
        }
        task.done(outcome.what);
        logins.push(Line { place: room.path(), outcome, service_accounts });
    }
    Ok(Some(Report { registry: at.registry.clone(), projects: terms.scope(), logins, notes: at.obstacles() }))
}

/// The spec's; or, with a kubeconfig, any that there is.
async fn any_cluster(shared: &Shared) -> Result<Cluster> {
    match &shared.kubeconfig {
        Some(file) if !shared.spec.exists() => Cluster::new(Access::file(file, shared.kube_context.as_deref()).await?, "default"),
        _ => cluster(shared, &read_spec(&shared.spec)?).await,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        for line in &self.logins {
            let Outcome { what, why, robot, expires } = &line.outcome;
            let what = why.map_or_else(|| (*what).to_owned(), |why| format!("{what}: {why}"));
            let expires = expires.as_ref().map_or_else(|| "never expires".to_owned(), |at| format!("expires {at}"));
            let accounts: Vec<_> =
                line.service_accounts.iter().map(|account| format!("used by service account {account} from now on")).collect();
            table.add_row([line.place.clone(), what, robot.clone(), expires, accounts.join(", ")]);
        }
        writeln!(f, "{}\n", table.trim_fmt())?;
        let projects = if self.projects == "*" { "all projects".to_owned() } else { self.projects.clone() };
        writeln!(f, "May pull from {projects} at {}.", self.registry)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "\n! {note}"))
    }
}
