//! What a run of the built program came to: the two desks of these tests share it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests; not each test uses all")]

use std::time::Duration;

use serde_json::Value;
use tokio::process::Child;
use tokio::time::timeout;

/// For a whole run on a slow machine.
const LONG: Duration = Duration::from_secs(120);

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }

    #[track_caller]
    pub(crate) fn tells(&self, words: &str) {
        assert!(self.stdout.contains(words) || self.stderr.contains(words), "{words:?} is not in\n{}\n{}", self.stdout, self.stderr);
    }
}

pub(crate) async fn outcome(child: Child) -> Outcome {
    let output = timeout(LONG, child.wait_with_output()).await.expect("it does not end").unwrap();
    let outcome = Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(!format!("{}{}", outcome.stdout, outcome.stderr).contains('\u{1b}'), "colours without a terminal: {outcome:?}");
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    outcome
}
