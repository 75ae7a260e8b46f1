//! The command line: what it means, what it prints, how it ends.

use std::time::Duration;

use redis_tls_proxy::cli::{Command, Output};
use redis_tls_proxy::config;
use redis_tls_proxy::config::settings::{SETTINGS, Scope};

use crate::command_line;

#[test]
fn a_url_or_a_flag_first_means_run() {
    for args in [
        &["run", "rediss://h", "--listen", "127.0.0.1:0", "--admin", "off"][..],
        &["rediss://h", "--listen", "127.0.0.1:0", "--admin", "off"],
        &["--admin=off", "--ca-only=off", "--quiet", "rediss://h?listen=127.0.0.1:0"],
    ] {
        let Ok(Command::Run(loaded)) = command_line(args, &[]) else { panic!("{args:?}") };
        assert_eq!(loaded.config.listeners[0].name, "redis-0");
    }
}

#[test]
fn the_other_commands() {
    let Ok(Command::Check { loaded, output }) = command_line(&["check", "-o", "json", "tls://h:1", "rediss://i", "rediss://j"], &[]) else {
        panic!("check")
    };
    assert_eq!((loaded.config.listeners.len(), output), (3, Output::Json));
    let Ok(Command::Wait { admin, max }) = command_line(&["wait", "--max", "5s"], &[("REDIS_TLS_PROXY_ADMIN", "0.0.0.0:1")]) else {
        panic!("wait")
    };
    assert_eq!((admin.to_string(), max), ("127.0.0.1:1".to_owned(), Duration::from_secs(5)));
    assert!(matches!(command_line(&["completions", "bash"], &[]), Ok(Command::Completions(script)) if script.contains("pool-min-idle")));
    let Ok(Command::Validate { text, .. }) = command_line(&["validate", "rediss://h/3?listen=127.0.0.1:0", "--admin", "off"], &[]) else {
        panic!("validate")
    };
    assert!(text.contains("rediss://h:6379/3") && text.contains("plaintext, no login") && text.contains("admin off"), "{text}");
}

#[test]
fn what_is_asked_for_goes_to_stdout_and_mistakes_do_not() {
    for (args, code, part) in [
        (&[][..], 64, "Examples:"),
        (&["--help"], 0, "Exit codes:"),
        (&["help"], 0, "Exit codes:"),
        (&["help", "wait"], 0, "--max"),
        (&["--version"], 0, env!("CARGO_PKG_VERSION")),
        (&["validate", "--schema"], 0, "\"$schema\""),
        (&["run"], 64, "URL: is missing; give at least one"),
        (&["run", "--config", "x", "rediss://h"], 64, "--config: cannot stand beside URLs"),
        (&["run", "--pool-sice", "3", "rediss://h"], 64, "--pool-size"),
        (&["completions", "tcsh"], 64, "is not a known shell"),
        (&["check", "-o", "xml", "rediss://h"], 64, "--output"),
        (&["wait", "--max", "30"], 64, "--max: `30` has no unit; say 30s for seconds"),
        (&["wait", "--admin", "off"], 64, "--admin: is off"),
        (&["check", "redis://h"], 64, "1 mistake; nothing was started"),
    ] {
        let exit = command_line(args, &[]).expect_err("ends");
        assert_eq!((exit.code, exit.stdout), (code, code == 0), "{args:?}: {}", exit.text);
        assert!(exit.text.contains(part) && exit.text.ends_with('\n'), "{args:?}: {}", exit.text);
    }
}

#[test]
fn the_configuration_file_can_come_from_the_environment() {
    let env = [("REDIS_TLS_PROXY_CONFIG", "tests/config/valid/minimal.yaml")];
    assert!(matches!(command_line(&["check"], &env), Ok(Command::Check { loaded, .. }) if loaded.config.listeners.len() == 1));
    let Ok(Command::Check { loaded, .. }) = command_line(&["check", "rediss://h"], &env) else { panic!("check") };
    assert_eq!(loaded.warnings, ["REDIS_TLS_PROXY_CONFIG is set, but its file is not read, because there are URLs; keep one of them"]);
}

#[test]
fn help_lists_every_setting_with_its_default() {
    let help = command_line(&["run", "--help"], &[]).expect_err("help").text;
    let words: String = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for setting in SETTINGS {
        assert!(help.contains(&format!("--{}", setting.name)), "--{} is missing", setting.name);
        let line = format!("{} [{}]", setting.help, setting.preset.shown());
        assert!(words.contains(&line), "{line}\n{help}");
    }
}

#[test]
fn the_schema_has_every_setting() {
    let schema: serde_json::Value = serde_json::from_str(&config::schema()).unwrap();
    let (top, items) = (&schema["properties"], &schema["properties"]["listeners"]["items"]);
    for setting in SETTINGS {
        assert!(top[setting.file_key()]["description"].is_string(), "{}", setting.name);
        let inside = !items["properties"][setting.file_key()].is_null();
        assert_eq!(inside, setting.scope == Scope::Listener, "{}", setting.name);
    }
    assert_eq!(items["required"][0], "url");
}
