//! What is there now: everything that is asked of DigitalOcean before anything is decided. Reads only.
//!
//! Each question can fail by itself (a token's scopes cannot be listed, only tried), so a [`Sight`] holds an answer or an error for each; the
//! preflight tells all of them at once, everybody else takes [`Sight::complete`].

use anyhow::{Context, Result, anyhow};
use secrecy::ExposeSecret;

use crate::digitalocean::{
    self, Account, Client, DatabaseCluster, DatabaseStatus, DatabaseUser, FirewallRule, KubernetesCluster, Options, Project, SpacesKey,
};
use crate::keyring::{Entry, Keyring};
use crate::names::Names;
use crate::plan::Wanted;
use crate::spaces::{self, Found, Keys, Spaces};
use crate::spec::{KeyFiles, Spec};

/// Answers and errors.
pub struct Sight {
    /// Whose token it is.
    pub account: digitalocean::Result<Account>,
    /// All DOKS clusters.
    pub clusters: digitalocean::Result<Vec<KubernetesCluster>>,
    /// All projects.
    pub projects: digitalocean::Result<Vec<Project>>,
    /// What can be made.
    pub options: digitalocean::Result<Options>,
    /// All databases of the account.
    pub databases: digitalocean::Result<Vec<DatabaseCluster>>,
    /// All Spaces keys of the account.
    pub keys: digitalocean::Result<Vec<SpacesKey>>,
}

/// All that a plan follows from.
pub struct Observed {
    /// Whose token it is.
    pub account: Account,
    /// The cluster of the spec.
    pub cluster: KubernetesCluster,
    /// Ours for it.
    pub names: Names,
    /// The project of the spec.
    pub project: Option<Project>,
    /// What can be made.
    pub options: Options,
    /// Harbor's tables.
    pub postgres: ObservedDatabase,
    /// Harbor's sessions and jobs.
    pub valkey: ObservedDatabase,
    /// Harbor's images.
    pub spaces: ObservedSpaces,
}

/// One database cluster, if it is there.
#[derive(Default)]
pub struct ObservedDatabase {
    /// The cluster.
    pub cluster: Option<DatabaseCluster>,
    /// One of that name that is another kind of server: it is in the way.
    pub other_kind: Option<DatabaseCluster>,
    /// Names of all that could be adopted.
    pub candidates: Vec<String>,
    /// Who may connect; known once it is online.
    pub rules: Vec<FirewallRule>,
    /// Of PostgreSQL: Harbor's user.
    pub user: Option<DatabaseUser>,
    /// Of PostgreSQL: whether Harbor's database is there.
    pub has_db: bool,
    /// Of Valkey: what it does when it is full.
    pub eviction: Option<String>,
    /// The authority of its certificate, PEM.
    pub ca: Option<String>,
    /// Whether the keyring holds the password that it has now.
    pub password_kept: bool,
}

impl ObservedDatabase {
    /// The cluster, when it serves.
    #[must_use]
    pub fn online(&self) -> Option<&DatabaseCluster> {
        self.cluster.as_ref().filter(|cluster| serves(cluster.status))
    }
}

/// Whether it can be talked to; one that grows or moves can.
#[must_use]
pub fn serves(status: DatabaseStatus) -> bool {
    matches!(status, DatabaseStatus::Online | DatabaseStatus::Resizing | DatabaseStatus::Migrating)
}

/// The bucket and its keys.
pub struct ObservedSpaces {
    /// Slug; of the spec, or the cluster's own where that has Spaces.
    pub region: Option<String>,
    /// The public half of the key in the keyring, if it is one that DigitalOcean knows or one of the user's own.
    pub held: Option<String>,
    /// The public half of the key before that one, which Harbor may still use.
    pub retiring: Option<String>,
    /// The keys that this keyring has made, by their name: those that are neither held nor retiring were left by a run that was killed.
    pub scoped: Vec<SpacesKey>,
    /// Temporary keys that this keyring has made: all were left by a run that was killed.
    pub temporary: Vec<SpacesKey>,
    /// Keys for this cluster that other keyrings have made.
    pub others: Vec<SpacesKey>,
    /// What the key in the keyring finds.
    pub bucket: BucketSight,
}

/// What can be seen of the bucket with the key in the keyring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketSight {
    /// The keyring holds no key, or one that is not valid any more.
    NoKey,
    /// It is there, and the key may use it.
    Ready,
    /// There is none of that name.
    Missing,
    /// The key may not use it.
    Forbidden,
}

impl Sight {
    /// Asks everything that needs no other answer.
    pub async fn look(client: &Client) -> Self {
        let (account, clusters, projects, options, databases, keys) = tokio::join!(
            client.account(),
            client.clusters(),
            client.projects(),
            client.database_options(),
            client.databases(),
            client.all_spaces_keys(),
        );
        Self { account, clusters, projects, options, databases, keys }
    }

    /// The rest: what is asked of the cluster, the databases and the bucket that the spec names.
    ///
    /// # Errors
    /// The first question that has no answer.
    pub async fn complete(self, client: &Client, s3: &S3, spec: &Spec, keyring: Option<&Keyring>) -> Result<Observed> {
        let account = self.account?;
        let cluster = find_cluster(&self.clusters?, &spec.cluster)?.clone();
        let project = find_project(self.projects, spec.project.as_deref())?;
        let (options, databases) = (self.options?, self.databases?);
        let names = Names::of(&cluster.id);
        let find = |wanted: Wanted<'_>| {
            let there = databases.iter().find(|database| database.name == wanted.name).cloned();
            let (cluster, other_kind) =
                there.map_or((None, None), |there| if wanted.fits(there.engine) { (Some(there), None) } else { (None, Some(there)) });
            ObservedDatabase { cluster, other_kind, candidates: wanted.candidates(&databases), ..ObservedDatabase::default() }
        };
        let (pg, valkey) = (find(Wanted::postgres(spec, &names)), find(Wanted::valkey(spec, &names)));
        let (postgres, valkey) = tokio::try_join!(postgres(client, spec, pg, keyring), valkey_or_redis(client, valkey, keyring))?;
        // With a key of the user's own nobody need be able to list keys.
        let keys = if spec.spaces.keys.is_some() { self.keys.unwrap_or_default() } else { self.keys? };
        let spaces = observe_spaces(s3, spec, &names, &cluster, keys, keyring).await?;
        Ok(Observed { account, cluster, names, project, options, postgres, valkey, spaces })
    }
}

/// Asks everything.
///
/// # Errors
/// The first question that has no answer.
pub async fn observe(client: &Client, s3: &S3, spec: &Spec, keyring: Option<&Keyring>) -> Result<Observed> {
    Sight::look(client).await.complete(client, s3, spec, keyring).await
}

/// Where buckets are, and how to speak to them.
pub struct S3 {
    /// In place of DigitalOcean's own, for all regions.
    pub endpoint: Option<String>,
    /// Shared with the API's client.
    pub http: reqwest::Client,
}

impl S3 {
    /// Of a region.
    #[must_use]
    pub fn endpoint(&self, region: &str) -> String {
        self.endpoint.clone().unwrap_or_else(|| spaces::endpoint(region))
    }

    /// With a key.
    ///
    /// # Errors
    /// When the endpoint is no URL.
    pub fn open(&self, region: &str, keys: Keys) -> Result<Spaces> {
        Ok(Spaces::new(&self.endpoint(region), keys, self.http.clone())?)
    }
}

/// The cluster of this name or id.
///
/// # Errors
/// When there is none, or more than one of that name.
pub fn find_cluster<'a>(clusters: &'a [KubernetesCluster], wanted: &str) -> Result<&'a KubernetesCluster> {
    if let Some(cluster) = clusters.iter().find(|cluster| cluster.id == wanted) {
        return Ok(cluster);
    }
    let mut named = clusters.iter().filter(|cluster| cluster.name == wanted);
    match (named.next(), named.next()) {
        (Some(cluster), None) => Ok(cluster),
        (Some(_), Some(_)) => {
            let ids: Vec<_> = clusters.iter().filter(|cluster| cluster.name == wanted).map(|cluster| cluster.id.as_str()).collect();
            Err(anyhow!("there are {} DOKS clusters named {wanted:?}; write the id of one as `cluster`: {}", ids.len(), ids.join(", ")))
        }
        _ => {
            let names: Vec<_> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
            let known = if names.is_empty() { "the account has none".to_owned() } else { format!("the account has {}", names.join(", ")) };
            Err(anyhow!("there is no DOKS cluster {wanted:?}: {known}; is it the right token and team?"))
        }
    }
}

/// The project of the spec. Nobody need be able to list projects who names none.
fn find_project(projects: digitalocean::Result<Vec<Project>>, wanted: Option<&str>) -> Result<Option<Project>> {
    let Some(wanted) = wanted else { return Ok(None) };
    let found = projects?.into_iter().find(|project| project.name == wanted || project.id == wanted);
    found
        .map(Some)
        .ok_or_else(|| anyhow!("there is no project {wanted:?}; make it in the control panel, or take `project` out of the spec"))
}

async fn postgres(client: &Client, spec: &Spec, mut seen: ObservedDatabase, keyring: Option<&Keyring>) -> Result<ObservedDatabase> {
    let Some(id) = seen.online().map(|cluster| cluster.id.clone()) else { return Ok(seen) };
    let asked = tokio::try_join!(client.firewall(&id), client.database_user(&id, &spec.postgres.user), client.dbs(&id), client.ca(&id));
    let Some((rules, user, dbs, ca)) = unless_too_early(asked, &mut seen)? else { return Ok(seen) };
    seen.has_db = dbs.iter().any(|db| db.name == spec.postgres.database);
    seen.password_kept = kept(keyring, Entry::PostgresPassword, user.as_ref().and_then(|user| user.password.as_ref()))?;
    (seen.rules, seen.user, seen.ca) = (rules, user, Some(ca));
    Ok(seen)
}

async fn valkey_or_redis(client: &Client, mut seen: ObservedDatabase, keyring: Option<&Keyring>) -> Result<ObservedDatabase> {
    let Some(id) = seen.online().map(|cluster| cluster.id.clone()) else { return Ok(seen) };
    let asked = tokio::try_join!(client.firewall(&id), client.eviction_policy(&id));
    let Some((rules, eviction)) = unless_too_early(asked, &mut seen)? else { return Ok(seen) };
    // Valkey has a public certificate; a Redis of before may have one of the project's own authority.
    let ca = client.ca(&id).await;
    seen.ca = match ca {
        Ok(ca) => Some(ca),
        Err(error) if matches!(error.status(), Some(404 | 422)) => None,
        Err(error) => return Err(error.into()),
    };
    let password = seen.cluster.as_ref().and_then(|cluster| cluster.private_connection.as_ref()).and_then(|to| to.password.as_ref());
    seen.password_kept = kept(keyring, Entry::ValkeyPassword, password)?;
    (seen.rules, seen.eviction) = (rules, Some(eviction));
    Ok(seen)
}

/// A cluster that the list shows can still be unknown where its parts are asked for: then it does not serve yet, whatever the list says.
fn unless_too_early<T>(asked: digitalocean::Result<T>, seen: &mut ObservedDatabase) -> Result<Option<T>> {
    match asked {
        Ok(answers) => Ok(Some(answers)),
        Err(error) if error.is_not_found() => {
            if let Some(cluster) = &mut seen.cluster {
                cluster.status = DatabaseStatus::Other;
            }
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the keyring has the live password.
fn kept(keyring: Option<&Keyring>, entry: Entry, live: Option<&secrecy::SecretString>) -> Result<bool> {
    let (Some(keyring), Some(live)) = (keyring, live) else { return Ok(false) };
    Ok(keyring.get(entry)?.is_some_and(|kept| kept.expose_secret() == live.expose_secret()))
}

async fn observe_spaces(
    s3: &S3,
    spec: &Spec,
    names: &Names,
    cluster: &KubernetesCluster,
    keys: Vec<SpacesKey>,
    keyring: Option<&Keyring>,
) -> Result<ObservedSpaces> {
    let own = Some(&cluster.region).filter(|region| spaces::REGIONS.contains(&region.as_str()));
    let region = spec.spaces.region.as_ref().or(own).cloned();
    let id = keyring.map(Keyring::id);
    let of_cluster = keys.into_iter().filter(|key| names.is_key(&key.name));
    let (scoped, rest): (Vec<_>, Vec<_>) = of_cluster.partition(|key| id.is_some_and(|id| key.name == names.spaces_key(id)));
    let (temporary, others) = rest.into_iter().partition(|key| id.is_some_and(|id| key.name == names.temporary_key(id)));
    let kept = keyring.map(Keyring::spaces_keys).transpose()?.flatten();
    let of_ours = kept.as_ref().filter(|kept| scoped.iter().any(|key| key.access_key == kept.access_key));
    let of_ours = of_ours.map(|kept| kept.access_key.clone());
    let held = match &spec.spaces.keys {
        // Whoever has put another key into the files wants that one.
        Some(files) => {
            let own = own_keys(files)?;
            kept.filter(|held| held.access_key == own.access_key && held.secret_key.expose_secret() == own.secret_key.expose_secret())
        }
        None => kept.filter(|held| of_ours.as_ref() == Some(&held.access_key)),
    };
    let access_key = held.as_ref().map(|held| held.access_key.clone());
    let bucket = match (held, &region) {
        (Some(keys), Some(region)) => look_at_bucket(&s3.open(region, keys)?, &bucket_name(spec, names)).await?,
        _ => BucketSight::NoKey,
    };
    let retiring = keyring.map(|keyring| keyring.get(Entry::SpacesRetiringKey)).transpose()?.flatten();
    // Also one of ours that one of the user's own is to replace.
    let retiring = retiring.map(|key| key.expose_secret().to_owned()).or_else(|| of_ours.filter(|_| spec.spaces.keys.is_some()));
    Ok(ObservedSpaces { region, held: access_key, retiring, scoped, temporary, others, bucket })
}

/// The key that the user already has.
///
/// # Errors
/// When a file cannot be read, or is empty.
pub fn own_keys(files: &KeyFiles) -> Result<Keys> {
    let read = |path: &std::path::Path| {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("{shown} (of spaces.keys) cannot be read"))?;
        let text = text.trim();
        if text.is_empty() { Err(anyhow!("{shown} (of spaces.keys) is empty")) } else { Ok(text.to_owned()) }
    };
    Ok(Keys { access_key: read(&files.access_key_file)?, secret_key: read(&files.secret_key_file)?.into() })
}

/// The user's own, or ours.
#[must_use]
pub fn bucket_name(spec: &Spec, names: &Names) -> String {
    spec.spaces.adopt.clone().unwrap_or_else(|| names.bucket())
}

async fn look_at_bucket(spaces: &Spaces, bucket: &str) -> Result<BucketSight> {
    match spaces.find(bucket).await {
        Ok(Found::Mine) => Ok(BucketSight::Ready),
        Ok(Found::Missing) => Ok(BucketSight::Missing),
        Ok(Found::Foreign | Found::Elsewhere) => Ok(BucketSight::Forbidden),
        // Also a key whose halves do not belong together is as good as none.
        Err(error) if error.is("InvalidAccessKeyId") || error.is("SignatureDoesNotMatch") => Ok(BucketSight::NoKey),
        Err(error) => Err(error.into()),
    }
}
