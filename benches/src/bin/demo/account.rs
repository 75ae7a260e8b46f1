//! The account: what is in it, and `doks-harbor` at work with it, as a child with a token in its environment.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use lab::cloud::Cloud;
use lab::digitalocean::{CLUSTER_NAME, Fake};
use lab::{Authority, Postgres, Redis};
use tempfile::TempDir;
use tokio::process::Command;

use crate::say;

/// The exit code of a plan that has something to do.
const CHANGES: i32 = 2;

/// DigitalOcean, as far as one user sees it, and that user's folder.
pub(crate) struct Account {
    pub(crate) redis: Redis,
    pub(crate) postgres: Postgres,
    cloud: Cloud,
    folder: TempDir,
    installer: PathBuf,
}

/// What a child said.
struct Said {
    stdout: String,
    stderr: String,
}

impl Account {
    /// With one DOKS cluster in it and nothing else; databases take a moment to come, as they do.
    pub(crate) async fn open(authority: &Authority, installer: PathBuf) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("demo-").tempdir()?;
        let password: String = std::iter::repeat_with(fastrand::alphanumeric).take(24).collect();
        let redis = Redis::builder(authority).password(&password).start().await?;
        let postgres = Postgres::builder(authority).ssl_only().start().await?;
        let builder = Fake::builder()
            .hidden_polls(1)
            .creating_polls(2)
            .private("valkey", "localhost", redis.port())
            .private("pg", "localhost", postgres.port())
            .admin_password("valkey", &password)
            .ca("valkey", &authority.ca_pem())
            .ca("pg", &authority.ca_pem());
        let cloud = Cloud::with(builder).await?;
        let spec = format!("cluster: {CLUSTER_NAME}\nharbor:\n  host: harbor.example.com\n  expose: ingress\n");
        fs::write(folder.path().join("doks-harbor.yaml"), &spec)?;
        println!(
            "   doks-harbor.yaml:  {}",
            spec.trim().split('\n').map(str::trim_end).collect::<Vec<_>>().join("\n                      ")
        );
        Ok(Self { redis, postgres, cloud, folder, installer })
    }

    /// Everything that could stand in the way.
    pub(crate) async fn preflight(&self) -> Result<()> {
        let said = self.run(&["preflight", "--until", "cloud"], 0).await?;
        let good = said.stdout.lines().filter(|line| line.trim_start().starts_with('✓')).count();
        println!("   ✓ {good} checks");
        said.stdout.lines().filter(|line| line.trim_start().starts_with('!')).for_each(|line| println!("   {}", line.trim()));
        Ok(())
    }

    /// What there is to do and what it costs; the steps of each are left out here.
    pub(crate) async fn plan(&self) -> Result<()> {
        let said = self.run(&["plan", "--until", "cloud"], CHANGES).await?;
        let matters = |line: &&str| [" + ", "Cost:", "Time:"].iter().any(|begin| line.starts_with(begin));
        said.stdout.lines().filter(matters).for_each(|line| println!("   {}", line.trim_end()));
        Ok(())
    }

    pub(crate) async fn apply(&self) -> Result<()> {
        let said = self.run(&["apply", "--yes", "--poll", "200ms", "--until", "cloud"], 0).await?;
        // The progress of a run that nobody looks at is a line for each step.
        said.stderr.lines().filter(|line| line.contains("✓ ready")).for_each(|line| println!("   {line}"));
        Ok(())
    }

    /// Makes in the real server what the imitation was asked for. DigitalOcean does that; the grant is the one that NEXT.md has a pod for.
    pub(crate) async fn obey(&self) -> Result<()> {
        let database = self.cloud.api.world(|world| world.databases.iter().find(|there| there.engine == "pg").cloned());
        let database = database.context("apply has made no PostgreSQL")?;
        let users: Vec<_> = database.users.iter().filter(|user| user.role == "normal").collect();
        for user in &users {
            self.postgres.sql(&format!("CREATE ROLE {} LOGIN PASSWORD '{}'", user.name, user.password)).await?;
        }
        for db in database.dbs.iter().filter(|db| *db != "defaultdb") {
            self.postgres.sql(&format!("CREATE DATABASE {db}")).await?;
            for user in &users {
                self.postgres.sql_in(db, &format!("GRANT ALL ON SCHEMA public TO {}", user.name)).await?;
            }
        }
        Ok(())
    }

    /// What may be committed, and that no secret is in it.
    pub(crate) fn show_files(&self) -> Result<()> {
        let rendered = files(&self.path("doks-harbor.out"))?;
        let secrets: BTreeMap<_, _> =
            files(&self.path("doks-harbor.keyring"))?.into_iter().filter(|(path, _)| !path.starts_with('.')).collect();
        ensure!(!rendered.is_empty() && !secrets.is_empty(), "apply has written nothing");
        for (path, text) in &rendered {
            println!("   doks-harbor.out/{path}");
            if let Some(entry) = secrets.iter().find(|(_, secret)| text.contains(secret.trim())).map(|(entry, _)| entry) {
                bail!("doks-harbor.out/{path} holds {entry}");
            }
        }
        println!("   doks-harbor.keyring/  {} secrets; none of them is in a file above, so those can be committed", secrets.len());
        Ok(())
    }

    /// The configuration for a proxy on these ports.
    pub(crate) async fn render_local(&self, redis: u16, postgres: u16) -> Result<PathBuf> {
        let (redis, postgres) = (format!("127.0.0.1:{redis}"), format!("127.0.0.1:{postgres}"));
        self.run(&["render", "--target", "local", "--redis-listen", &redis, "--postgres-listen", &postgres], 0).await?;
        Ok(self.path("doks-harbor.out/local/proxy.yaml"))
    }

    pub(crate) async fn status(&self) -> Result<()> {
        let said = self.run(&["status", "--cloud"], 0).await?;
        said.stdout.lines().filter(|line| !line.is_empty()).for_each(|line| println!("  {}", line.trim_end()));
        Ok(())
    }

    /// From the keyring.
    pub(crate) fn secret(&self, entry: &str) -> Result<String> {
        let path = self.path("doks-harbor.keyring").join(entry);
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
    }

    /// Where to go, and what a shell has to know there.
    pub(crate) fn try_it(&self) -> String {
        let (folder, api) = (self.folder.path().display(), &self.cloud.api);
        let (url, token, spaces) = (api.url(), api.token(), self.cloud.s3.endpoint());
        format!(
            "  cd {folder}\n  export DIGITALOCEAN_API_URL={url} DOKS_HARBOR_SPACES_ENDPOINT={spaces}\n  \
             export DIGITALOCEAN_TOKEN={token}\n  {} status",
            self.installer.display()
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Says what is run, and runs it; another exit code is an error.
    async fn run(&self, arguments: &[&str], expected: i32) -> Result<Said> {
        say(&format!("$ doks-harbor {}", arguments.join(" ")));
        let mut command = Command::new(&self.installer);
        command.args(arguments).args(self.cloud.arguments()).current_dir(self.folder.path());
        // The imitation takes no other.
        command.env("DIGITALOCEAN_TOKEN", self.cloud.api.token());
        let output = command.kill_on_drop(true).output().await.context("doks-harbor cannot be started")?;
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        ensure!(output.status.code() == Some(expected), "doks-harbor {}: {}\n{stdout}{stderr}", arguments.join(" "), output.status);
        Ok(Said { stdout, stderr })
    }
}

/// Every file below a folder, by its path there.
fn files(folder: &Path) -> Result<BTreeMap<String, String>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("{} cannot be read", next.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let shown = path.strip_prefix(folder)?.display().to_string();
                found.insert(shown, fs::read_to_string(&path)?);
            }
        }
    }
    Ok(found)
}
