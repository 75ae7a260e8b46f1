//! `init`: a file worth reading.

use std::io::Write;

use anyhow::{Context, Result, bail};

use super::{DONE, say, servers};
use crate::cli::{Init, Output, Shared};
use crate::spec::{Spec, template};

pub(super) async fn run(shared: &Shared, args: &Init) -> Result<u8> {
    let path = shared.spec.display();
    if shared.spec.exists() && !args.force {
        bail!("{path} exists; look at it, or overwrite it with --force");
    }
    let cluster = match &args.cluster {
        Some(cluster) => cluster.clone(),
        None => only_cluster(shared).await?,
    };
    let text = template(&cluster, args.host.as_deref());
    Spec::read(&text).context("--cluster or --host cannot be used")?;
    let folder = shared.spec.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| std::path::Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(|| format!("{path} cannot be written"))?;
    file.write_all(text.as_bytes())?;
    file.persist(&shared.spec).with_context(|| format!("{path} cannot be written"))?;
    if shared.output == Output::Json {
        say(&serde_json::json!({ "written": shared.spec, "cluster": cluster }).to_string());
        return Ok(DONE);
    }
    say(&format!("{path} written for the cluster {cluster}. Next: read it, then `doks-harbor preflight` and `doks-harbor plan`."));
    Ok(DONE)
}

/// Whoever has one cluster need not name it.
async fn only_cluster(shared: &Shared) -> Result<String> {
    let (client, _) = servers(shared).context("without --cluster the token is asked which there are")?;
    let clusters = client.clusters().await?;
    match clusters.as_slice() {
        [one] => Ok(one.name.clone()),
        [] => bail!("the account has no DOKS cluster: make one first, or name it with --cluster"),
        many => {
            let names: Vec<_> = many.iter().map(|cluster| cluster.name.as_str()).collect();
            bail!("the account has several DOKS clusters: name one with --cluster: {}", names.join(", "))
        }
    }
}
