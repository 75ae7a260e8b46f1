//! The token of DigitalOcean's API: from a file, the environment or doctl's configuration; never from an argument, where every user of the
//! machine could read it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use secrecy::SecretString;
use serde::Deserialize;

/// In this order.
const VARIABLES: [&str; 2] = ["DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN"];

/// The part of doctl's configuration that matters.
#[derive(Deserialize)]
struct Doctl {
    #[serde(rename = "access-token", default)]
    access_token: Option<String>,
    #[serde(default)]
    context: Option<String>,
    #[serde(rename = "auth-contexts", default)]
    contexts: std::collections::BTreeMap<String, String>,
}

/// The file that was named, else the environment, else what doctl uses (its context, or the one named).
///
/// # Errors
/// When there is none, with all the places that were looked at.
pub fn find(file: Option<&Path>, context: Option<&str>, env: &dyn Fn(&str) -> Option<String>) -> Result<SecretString> {
    if let Some(file) = file {
        let text = std::fs::read_to_string(file).with_context(|| format!("--token-file {} cannot be read", file.display()))?;
        return checked(&text).with_context(|| format!("--token-file {}", file.display()));
    }
    if context.is_none() {
        for variable in VARIABLES {
            if let Some(text) = env(variable).filter(|text| !text.trim().is_empty()) {
                return checked(&text).context(variable);
            }
        }
    }
    let path = doctl_file(env);
    if let Some(text) = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok()) {
        let shown = path.map_or_else(String::new, |path| path.display().to_string());
        // The error would quote the line, and the token with it.
        let doctl: Doctl = serde_saphyr::from_str(&text).map_err(|_| anyhow::anyhow!("{shown} is no configuration of doctl"))?;
        if let Some(token) = doctl.token(context) {
            return checked(token).with_context(|| shown);
        }
    }
    match context {
        Some(context) => bail!("doctl's configuration has no context {context:?}; `doctl auth list` shows them"),
        None => bail!(
            "no token: put one into the environment variable {}, name a file with --token-file, or log in with `doctl auth init`; \
             tokens are made at https://cloud.digitalocean.com/account/api/tokens",
            VARIABLES[0]
        ),
    }
}

impl Doctl {
    fn token(&self, context: Option<&str>) -> Option<&str> {
        let context = context.or(self.context.as_deref()).unwrap_or("default");
        let named = self.contexts.get(context).map(String::as_str);
        let of_default = || self.access_token.as_deref().filter(|_| context == "default");
        named.or_else(of_default).filter(|token| !token.is_empty())
    }
}

/// A token goes into a header: a line break in it would be an error that quotes it.
fn checked(text: &str) -> Result<SecretString> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("holds no token: one line of letters, digits and punctuation");
    }
    Ok(token.into())
}

fn doctl_file(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let home = || env("HOME").map(PathBuf::from);
    let config = if cfg!(target_os = "macos") {
        home()?.join("Library/Application Support")
    } else {
        env("XDG_CONFIG_HOME").filter(|path| !path.is_empty()).map(PathBuf::from).or_else(|| Some(home()?.join(".config")))?
    };
    Some(config.join("doctl/config.yaml"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn found(file: Option<&Path>, context: Option<&str>, pairs: &[(&str, &str)]) -> Result<String> {
        let env = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        find(file, context, &env).map(|token| token.expose_secret().to_owned())
    }

    #[test]
    fn the_nearest_place_wins() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "dop_v1_file\n").unwrap();
        std::fs::create_dir(folder.path().join("doctl")).unwrap();
        let config = "access-token: dop_v1_main\ncontext: work\nauth-contexts:\n  work: dop_v1_work\n  play: dop_v1_play\n";
        std::fs::write(folder.path().join("doctl/config.yaml"), config).unwrap();
        let config_home = ("XDG_CONFIG_HOME", folder.path().to_str().unwrap());
        let env = [("DIGITALOCEAN_ACCESS_TOKEN", "dop_v1_env"), config_home];
        assert_eq!(found(Some(&file), None, &env).unwrap(), "dop_v1_file");
        assert_eq!(found(None, None, &env).unwrap(), "dop_v1_env");
        assert_eq!(found(None, None, &[config_home]).unwrap(), "dop_v1_work");
        assert_eq!(found(None, Some("play"), &env).unwrap(), "dop_v1_play", "who names a context means it");
        assert_eq!(found(None, Some("default"), &env).unwrap(), "dop_v1_main");
        assert!(found(None, Some("none"), &env).unwrap_err().to_string().contains("none"));
    }

    #[test]
    fn without_a_token_every_place_is_told_and_no_token_is_quoted() {
        let told = found(None, None, &[("XDG_CONFIG_HOME", "/nowhere")]).unwrap_err().to_string();
        assert!(told.contains("DIGITALOCEAN_TOKEN") && told.contains("--token-file") && told.contains("doctl auth init"), "{told}");
        let told = format!("{:#}", found(None, None, &[("DIGITALOCEAN_TOKEN", "dop_v1_se\ncret")]).unwrap_err());
        assert!(!told.contains("dop_v1"), "{told}");
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("doctl")).unwrap();
        std::fs::write(folder.path().join("doctl/config.yaml"), "access-token: [dop_v1_secret\n").unwrap();
        let told = format!("{:#}", found(None, None, &[("XDG_CONFIG_HOME", folder.path().to_str().unwrap())]).unwrap_err());
        assert!(!told.contains("dop_v1") && told.contains("config.yaml"), "{told}");
    }
}
