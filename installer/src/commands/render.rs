//! `render`: files for Helm or for Harbor's docker-compose installer.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{DONE, Tools, complain, keyring, read_spec, say};
use crate::apply;
use crate::cli::{Render, Shared, Target};
use crate::facts::Facts;
use crate::keyring::Keyring;
use crate::observe::observe;
use crate::render::{Budget, COMPOSE_SECRET_FILE, Rendered, compose, compose_secret, helm, proxy, secret_values, secrets};
use crate::spec::Spec;

pub(super) async fn run(shared: &Shared, args: &Render) -> Result<u8> {
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
    let rendered = rendered(&spec, &facts, args.target, keyring.as_ref())?;
    write(&args.out, &rendered)?;
    for path in rendered.files.keys() {
        say(&args.out.join(path).display().to_string());
    }
    Ok(DONE)
}

/// All files, or every reason why not. What is made of secrets goes into the keyring.
pub(super) fn rendered(spec: &Spec, facts: &Facts, target: Target, keyring: Option<&Keyring>) -> Result<Rendered> {
    let values = spec.harbor.values.as_deref().map(read_values).transpose()?;
    let rendered = match target {
        Target::Helm => helm(spec, facts, values.as_ref()),
        Target::Compose => compose(spec, facts),
    };
    let mut rendered = rendered.map_err(nothing_written)?;
    rendered.warnings.extend(try_out(spec, facts, target, keyring)?);
    match keyring {
        Some(keyring) => rendered.warnings.extend(write_secrets(spec, facts, target, keyring)?),
        None => rendered.warnings.push("there is no keyring: what is made of secrets was not written".to_owned()),
    }
    rendered.files.insert("facts.json".to_owned(), facts.to_json() + "\n");
    Ok(rendered)
}

/// Lets the proxy's own code judge its configuration; with the keyring's passwords where it has them.
fn try_out(spec: &Spec, facts: &Facts, target: Target, keyring: Option<&Keyring>) -> Result<Vec<String>> {
    let proxies = if target == Target::Compose { 1 } else { facts.cluster.nodes };
    let budget = Budget::new(spec, facts, proxies).map_err(|problem| nothing_written(vec![problem]))?;
    let scratch = tempfile::tempdir().context("no temporary folder")?;
    let complete = keyring.filter(|keyring| proxy::PASSWORDS.iter().all(|entry| matches!(keyring.get(*entry), Ok(Some(_)))));
    proxy::check(facts, &budget, complete.map(Keyring::folder), scratch.path()).map_err(nothing_written)
}

/// The file that is made of secrets, where the target needs one: into the keyring.
fn write_secrets(spec: &Spec, facts: &Facts, target: Target, keyring: &Keyring) -> Result<Option<String>> {
    let secret = |entry| keyring.get(entry).ok().flatten();
    let file = match target {
        Target::Helm => secret_values(spec, secret).map(|values| values.map(|values| (secrets::VALUES_FILE, values))),
        Target::Compose => compose_secret(spec, facts, secret).map(|fragment| Some((COMPOSE_SECRET_FILE, fragment))),
    };
    match file {
        Ok(Some((name, content))) => keyring.put_file(name, &content)?,
        Ok(None) => {}
        Err(lacks) => return Ok(Some(format!("the keyring lacks {}: run `doks-harbor apply`, then render again", lacks.join(", ")))),
    }
    Ok(None)
}

fn nothing_written(problems: Vec<String>) -> anyhow::Error {
    anyhow::anyhow!("nothing was written:\n{}", problems.join("\n"))
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
