//! No text that a user or a log can see holds a password, wherever it was put.

use std::fs;

use proptest::prelude::*;
use redis_tls_proxy::cli::{Command, Exit};

use crate::command_line;

/// Puts the password in every place where people put one, rightly or not.
fn misuses(password: &str) -> Vec<Vec<String>> {
    let urls = [
        format!("rediss://user:{password}@h.example"),
        format!("rediss://user:{password}@h.example/x"),
        format!("rediss://:{password}@h.example:port"),
        format!("rediss://user:{password}"),
        format!("rediss://user:{password}@"),
        format!("rediss//user:{password}@h.example"),
        format!("rediss:/user:{password}@h.example"),
        format!("user:{password}@h.example"),
        format!("redis://user:{password}@h.example"),
        format!("mysql://user:{password}@h.example"),
        format!("tls://user:{password}@h.example:1"),
        format!("postgresql://user:{password}@h.example/db?sslmode=require"),
        format!("postgresql://:{password}@h.example/db"),
        format!("rediss://user@h.example?password={password}"),
        format!("rediss://user@h.example?pasword={password}"),
        format!("rediss://user@h.example?password_env={password}"),
        format!("rediss://user:{password}@h.example?client_auth=upstream"),
        format!("rediss://user:{password}@h.example?password_file=tests/config/files/password"),
        format!("rediss://user:{password}@h.example?listen=127.0.0.1:0"),
    ];
    let mut all = Vec::new();
    for url in urls {
        for before in [&["run"][..], &["check"], &["validate", "--explain"], &["completions"], &["wait"], &[], &["run", "--bogus"]] {
            all.push(before.iter().map(|word| (*word).to_owned()).chain([url.clone()]).collect());
        }
        all.push(vec!["run".to_owned(), format!("--bogus={url}")]);
        all.push(vec!["run".to_owned(), format!("--quiet={url}")]);
    }
    all.push(vec!["run".to_owned(), format!("--password={password}"), "rediss://h".to_owned()]);
    all
}

/// Everything that a user or a log could see of the outcome.
fn everything_shown(result: Result<Command, Exit>) -> String {
    match result {
        Ok(Command::Run(loaded) | Command::Check { loaded, .. }) => {
            format!("{loaded:?} {:?} {} {}", loaded.warnings, loaded.table(), loaded.explanation())
        }
        other => format!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_password_is_ever_shown(start in "[a-zA-Z]{4}[0-9]{4}", rest in "[a-zA-Z0-9%/?#@:!$&'()*+,;=.~^ -]{0,12}") {
        // The first letters stand for the whole: showing a part of a password is showing it.
        let password = format!("{start}{rest}");
        for args in misuses(&password) {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let shown = everything_shown(command_line(&args, &[]));
            prop_assert!(!shown.contains(&start), "{args:?} shows it: {shown}");
        }
        let variables = [("REDIS_TLS_PROXY_PASSWORD", password.as_str()), ("REDIS_TLS_PROXY_CLIENT_PASSWORD", password.as_str())];
        for url in ["rediss://user@h?client_auth=password", "postgresql://h", "tls://h:1", "rediss://h/x"] {
            let shown = everything_shown(command_line(&["check", url], &variables));
            prop_assert!(!shown.contains(&start), "{url} shows it: {shown}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.yaml");
        for text in [
            format!("listeners:\n  - url: rediss://user:{password}@h.example\n"),
            format!("listeners:\n  - url: rediss://user@h.example\n    password: {password}\n"),
            format!("listeners:\n  - url: rediss://user@h.example\n    password_env: {password}\n"),
            format!("password: \"{password}\n"),
        ] {
            fs::write(&path, &text).unwrap();
            let shown = format!("{:?}", command_line(&["run", "--config", path.to_str().unwrap()], &[]).map(|_| ()));
            prop_assert!(!shown.contains(&start), "{text} shows it: {shown}");
        }
    }
}
