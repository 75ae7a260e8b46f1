//! `proxy.example.yaml`: valid as it stands, complete, and right about the defaults.

use std::fs;
use std::path::Path;

use redis_tls_proxy::config::Protocol;
use redis_tls_proxy::config::settings::{Preset, SETTINGS, Setting};

use crate::{Given, load, refused};

const EXAMPLE: &str = "proxy.example.yaml";

/// `(key, value, commented out)` of every line of the example that is a setting.
fn example_settings() -> Vec<(&'static Setting, String, bool)> {
    let text = fs::read_to_string(EXAMPLE).unwrap();
    let lines = text.lines().filter_map(|line| {
        let line = line.trim_start();
        let (line, commented) = line.strip_prefix("# ").map_or((line, false), |line| (line, true));
        let (key, value) = line.split_once(": ")?;
        let setting = SETTINGS.iter().find(|setting| setting.file_key() == key)?;
        Some((setting, value.to_owned(), commented))
    });
    lines.collect()
}

#[test]
fn the_example_is_valid_as_it_stands() {
    let loaded = load(&[], Some(Path::new(EXAMPLE)), &Given::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(loaded.config.listeners.len(), 3);
    let protocols: Vec<Protocol> = loaded.config.listeners.iter().map(|listener| listener.protocol).collect();
    assert_eq!(protocols, [Protocol::Redis, Protocol::Postgres, Protocol::Tls]);
}

#[test]
fn the_example_shows_every_setting_at_its_default() {
    let shown = example_settings();
    for setting in SETTINGS {
        let mut lines = shown.iter().filter(|(found, ..)| found.key == setting.key);
        let (_, value, _) = lines.next().unwrap_or_else(|| panic!("{} is missing in the example", setting.file_key()));
        match setting.preset {
            Preset::Is(default) => assert_eq!(value, default, "{}", setting.name),
            Preset::Per { redis, .. } => assert_eq!(value, redis, "{}", setting.name),
            Preset::Absent(_) => {}
        }
    }
    let live = shown.iter().filter(|(.., commented)| !commented).count();
    assert_eq!((shown.len(), live), (SETTINGS.len() + 3, 5), "settings shown, and those not commented out");
}

#[test]
fn the_example_stays_good_when_everything_is_commented_in() {
    let text = fs::read_to_string(EXAMPLE).unwrap();
    let keys: Vec<String> = SETTINGS.iter().map(|setting| format!("# {}: ", setting.file_key())).collect();
    let mut changed = 0;
    let mut lines = Vec::new();
    for line in text.lines() {
        let start = line.trim_start();
        if keys.iter().any(|key| start.starts_with(key)) {
            changed += 1;
            lines.push(line.replacen("# ", "", 1));
        } else {
            lines.push(line.to_owned());
        }
    }
    assert_eq!(changed, SETTINGS.len() - 2);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all.yaml");
    fs::write(&path, lines.join("\n")).unwrap();
    // All that is left: the files do not exist here, and there are two passwords to choose from.
    let got = refused(load(&[], Some(&path), &Given::default()));
    let surprising: Vec<&str> = got.lines().filter(|line| !line.contains("cannot read /") && !line.contains("password")).collect();
    assert!(surprising.is_empty(), "{surprising:?}");
}
