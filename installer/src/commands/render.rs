//! `render`: files for Helm, for Harbor's docker-compose installer, or for a proxy on this machine.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use secrecy::SecretString;

use super::{DONE, Tools, complain, keyring, read_spec, say, usage};
use crate::apply;
use crate::cli::{Output, Render, Shared, Target};
use crate::facts::Facts;
use crate::keyring::{Entry, Keyring};
use crate::observe::observe;
use crate::render::proxy::Place;
use crate::render::{
    Budget, COMPOSE_SECRET_FILE, LOCAL_FOLDER, Rendered, compose, compose_secret, helm, local, local_budget, proxy, secret_values, secrets,
};
use crate::spec::Spec;

pub(super) async fn run(shared: &Shared, args: &Render) -> Result<u8> {
    if args.target != Target::Local && (args.redis_listen.is_some() || args.postgres_listen.is_some()) {
        return Err(usage("--redis-listen and --postgres-listen belong to --target local: in the cluster the Service has the usual ports"));
    }
    let keyring = keyring(shared)?;
    let (spec, facts) = if let Some(path) = &args.facts {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
        let facts = Facts::from_json(&text).with_context(|| format!("{shown} holds no facts; `doks-harbor apply -o json` prints them"))?;
        (read_spec(&shared.spec)?, facts)
    } else {
        let tools = Tools::new(shared)?;
        let observed = observe(&tools.client, &tools.s3, &tools.spec, keyring.as_ref()).await?;
        let facts = apply::facts(&tools.spec, &observed, &tools.s3)?;
        (tools.spec, facts)
    };
    let rendered = match args.target {
        Target::Helm => for_helm(&spec, &facts, keyring.as_ref())?,
        Target::Compose => for_compose(&spec, &facts, keyring.as_ref())?,
        Target::Local => for_here(&spec, &facts, args, keyring.as_ref())?,
    };
    write(&args.out, &rendered)?;
    let paths: Vec<_> = rendered.files.keys().map(|path| args.out.join(path).display().to_string()).collect();
    if shared.output == Output::Json {
        say(&serde_json::json!({ "files": paths, "warnings": rendered.warnings }).to_string());
        return Ok(DONE);
    }
    say(&paths.join("\n"));
    if args.target == Target::Local {
        complain(&format!(
            "Next: redis-tls-proxy run --config {}; clients give the password in {}.",
            args.out.join(LOCAL_FOLDER).join("proxy.yaml").display(),
            shared.keyring.join(Entry::ClientPassword.file()).display()
        ));
    }
    Ok(DONE)
}

/// For Helm: all files, or every reason why not. What is made of secrets goes into the keyring.
pub(super) fn for_helm(spec: &Spec, facts: &Facts, keyring: Option<&Keyring>) -> Result<Rendered> {
    let rendered = helm(spec, facts, given_values(spec)?.as_ref()).map_err(nothing_written)?;
    whole(spec, facts, facts.cluster.nodes, keyring, rendered, |keyring| {
        let file = secret_values(spec, |entry| keyring.get(entry).ok().flatten())?;
        Ok(file.map(|values| (secrets::VALUES_FILE, values)))
    })
}

/// The user's own.
pub(super) fn given_values(spec: &Spec) -> Result<Option<serde_json::Value>> {
    spec.harbor.values.as_deref().map(read_values).transpose()
}

/// Those that the chart can only take as values; nothing where it needs none, or where the keyring does not have them yet.
pub(super) fn values_with_secrets(spec: &Spec, keyring: &Keyring) -> Result<Option<serde_json::Value>> {
    let Ok(Some(text)) = secret_values(spec, |entry| keyring.get(entry).ok().flatten()) else { return Ok(None) };
    let values = serde_saphyr::from_str(secrecy::ExposeSecret::expose_secret(&text));
    values.map(Some).map_err(|_| anyhow::anyhow!("{} cannot be read: this build is broken", secrets::VALUES_FILE))
}

/// For Harbor's own installer, where one proxy is all there is.
fn for_compose(spec: &Spec, facts: &Facts, keyring: Option<&Keyring>) -> Result<Rendered> {
    let rendered = compose(spec, facts).map_err(nothing_written)?;
    whole(spec, facts, 1, keyring, rendered, |keyring| {
        let file = compose_secret(spec, facts, |entry| keyring.get(entry).ok().flatten())?;
        Ok(Some((COMPOSE_SECRET_FILE, file)))
    })
}

/// With the proxy's own judgement of its configuration, the facts, and the file that is made of secrets where the target needs one.
fn whole(
    spec: &Spec,
    facts: &Facts,
    proxies: u32,
    keyring: Option<&Keyring>,
    mut rendered: Rendered,
    secret_file: impl Fn(&Keyring) -> Result<Option<(&'static str, SecretString)>, Vec<String>>,
) -> Result<Rendered> {
    let budget = Budget::new(spec, facts, proxies).map_err(|problem| nothing_written(vec![problem]))?;
    let complete = keyring.filter(|keyring| lacking(Some(keyring)).is_empty());
    rendered.warnings.extend(try_out(facts, &budget, &Place::pod(&spec.namespace), complete)?);
    match keyring.map(|keyring| (keyring, secret_file(keyring))) {
        Some((keyring, Ok(Some((name, content))))) => keyring.put_file(name, &content)?,
        Some((keyring, Ok(None))) => keyring.remove_file(secrets::VALUES_FILE)?,
        Some((_, Err(lacks))) => {
            rendered.warnings.push(format!("the keyring lacks {}: run `doks-harbor apply`, then render again", lacks.join(", ")));
        }
        None => rendered.warnings.push("there is no keyring: what is made of secrets was not written".to_owned()),
    }
    rendered.files.insert("facts.json".to_owned(), facts.to_json() + "\n");
    Ok(rendered)
}

/// After a rotation: the files that are made of secrets are made anew, or taken away where that needs more than the keyring. What to do then.
pub(super) fn refresh_secret_files(spec: &Spec, keyring: &Keyring) -> Result<Option<String>> {
    let there = |file: &str| keyring.folder().join(file).exists();
    let mut next = Vec::new();
    if there(secrets::VALUES_FILE)
        && let Ok(Some(values)) = secret_values(spec, |entry| keyring.get(entry).ok().flatten())
    {
        keyring.put_file(secrets::VALUES_FILE, &values)?;
        next.push(format!("{} is made anew: give it to helm again.", secrets::VALUES_FILE));
    }
    if there(COMPOSE_SECRET_FILE) {
        keyring.remove_file(COMPOSE_SECRET_FILE)?;
        next.push(format!("{COMPOSE_SECRET_FILE} held the old secret and is gone: `doks-harbor render --target compose` makes it anew."));
    }
    Ok((!next.is_empty()).then(|| next.join(" ")))
}

/// For a proxy on this machine: its paths are whole, so that it can be started from anywhere.
fn for_here(spec: &Spec, facts: &Facts, args: &Render, keyring: Option<&Keyring>) -> Result<Rendered> {
    let lacks = lacking(keyring);
    let Some(keyring) = keyring.filter(|_| lacks.is_empty()) else {
        bail!("the proxy would read these from the keyring, which lacks them: {}; run `doks-harbor apply` first", lacks.join(", "));
    };
    let absolute = |path: &Path| std::path::absolute(path).with_context(|| format!("{} cannot be used", path.display()));
    let mut place = Place::here(&absolute(&args.out)?.join(LOCAL_FOLDER), &absolute(keyring.folder())?);
    place.redis = args.redis_listen.clone().unwrap_or(place.redis);
    place.postgres = args.postgres_listen.clone().unwrap_or(place.postgres);
    let warnings = try_out(facts, &local_budget(spec), &place, Some(keyring))?;
    Ok(Rendered { warnings, ..local(spec, facts, &place) })
}

/// What the proxy reads and the keyring has not.
fn lacking(keyring: Option<&Keyring>) -> Vec<&'static str> {
    let lacks = |entry: &Entry| !matches!(keyring.map(|keyring| keyring.get(*entry)), Some(Ok(Some(_))));
    proxy::PASSWORDS.into_iter().filter(lacks).map(Entry::file).collect()
}

/// Lets the proxy's own code judge its configuration; with the keyring's passwords where it has them.
fn try_out(facts: &Facts, budget: &Budget, place: &Place, keyring: Option<&Keyring>) -> Result<Vec<String>> {
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    proxy::check(facts, budget, place, keyring.map(Keyring::folder), scratch.path()).map_err(nothing_written)
}

fn nothing_written(problems: Vec<String>) -> anyhow::Error {
    let lines: String = problems.into_iter().map(|problem| format!("\n{problem}")).collect();
    anyhow::anyhow!("nothing was written:{lines}")
}

fn read_values(path: &Path) -> Result<serde_json::Value> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("{shown} (harbor.values) cannot be read"))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{shown} (harbor.values) is no YAML"))
}

/// Each file in one go. What is there and not ours stays.
pub(super) fn write(out: &Path, rendered: &Rendered) -> Result<()> {
    rendered.warnings.iter().for_each(|warning| complain(&format!("warning: {warning}")));
    for (path, text) in &rendered.files {
        let path = out.join(path);
        let Some(folder) = path.parent() else { bail!("{} has no folder", path.display()) };
        let save = || {
            fs::create_dir_all(folder)?;
            let mut new = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)).tempfile_in(folder)?;
            std::io::Write::write_all(&mut new, text.as_bytes())?;
            new.persist(&path).map(|_| ()).map_err(|error| error.error)
        };
        save().with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}
