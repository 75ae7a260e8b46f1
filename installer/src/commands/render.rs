//! `render`: files for Helm or for Harbor's docker-compose installer.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{DONE, Tools, keyring, read_spec, say};
use crate::apply;
use crate::cli::{Render, Shared, Target};
use crate::facts::Facts;
use crate::keyring::Keyring;
use crate::observe::observe;
use crate::render::{Rendered, compose, helm};
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

/// All files, or every reason why not.
pub(super) fn rendered(spec: &Spec, facts: &Facts, target: Target, _keyring: Option<&Keyring>) -> Result<Rendered> {
    let values = spec.harbor.values.as_deref().map(read_values).transpose()?;
    let mut rendered = match target {
        Target::Helm => helm(spec, facts, values.as_ref()),
        Target::Compose => compose(spec, facts),
    }
    .map_err(|problems| anyhow::anyhow!("nothing was written:\n{}", problems.join("\n")))?;
    rendered.files.insert("facts.json".to_owned(), facts.to_json() + "\n");
    Ok(rendered)
}

fn read_values(path: &Path) -> Result<serde_json::Value> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("{shown} (harbor.values) cannot be read"))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{shown} (harbor.values) is no YAML"))
}

/// Each file in one go. What is there and not ours stays.
pub(super) fn write(out: &Path, rendered: &Rendered) -> Result<()> {
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
