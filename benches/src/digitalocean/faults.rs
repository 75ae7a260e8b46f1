//! What goes wrong, and when.

use std::time::Duration;

use tokio::sync::watch;

use crate::wait::Frozen;

/// Which request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// The n-th since the start, from 1.
    Request(usize),
    /// The n-th since the start that would change something (not GET), from 1.
    Mutation(usize),
    /// By method (`*` for any) and path, without the query; a `*` in the path stands for one part, a last `**` for any rest.
    Call(String, String),
    /// The next one.
    Any,
}

impl At {
    /// [`At::Call`].
    #[must_use]
    pub fn call(method: &str, path: &str) -> Self {
        Self::Call(method.to_owned(), path.to_owned())
    }

    fn fits(&self, seen: &Seen<'_>) -> bool {
        match self {
            Self::Request(n) => *n == seen.request,
            Self::Mutation(n) => seen.mutation == Some(*n),
            Self::Call(method, path) => (method == "*" || method == seen.method) && path_fits(path, seen.path),
            Self::Any => true,
        }
    }
}

fn path_fits(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('/');
    for wanted in pattern.split('/') {
        match (wanted, parts.next()) {
            ("**", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(part)) if wanted == part => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

/// What happens to it.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, and nothing was done.
    Before(u16),
    /// It was done, and this status says that it was not.
    After(u16),
    /// 429 of a burst: with `retry-after`.
    Burst(u64),
    /// 429 of the hour: without, and `ratelimit-reset` so many seconds from now.
    Hour(u64),
    /// The connection ends without an answer, and nothing was done.
    CutBefore,
    /// The connection ends without an answer, and it was done.
    CutAfter,
    /// It was done, and the answer takes its time.
    Slow(Duration),
    /// This answer, and nothing was done.
    Answer {
        /// HTTP.
        status: u16,
        /// As they are.
        headers: Vec<(String, String)>,
        /// As it is.
        body: Vec<u8>,
    },
    /// Held until it thaws.
    Freeze(Moment),
}

impl Fault {
    /// A body of one's own with status 200.
    #[must_use]
    pub fn body(body: impl Into<Vec<u8>>) -> Self {
        Self::Answer { status: 200, headers: Vec::new(), body: body.into() }
    }
}

/// When a request is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing was done yet; nothing will be if the client goes.
    BeforeCommit,
    /// All was done; the answer is held.
    AfterCommit,
}

/// A request, as far as faults care.
pub(super) struct Seen<'a> {
    pub(super) request: usize,
    pub(super) mutation: Option<usize>,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
}

/// A fault that is happening.
#[derive(Clone, Debug)]
pub(super) struct Happening {
    pub(super) fault: Fault,
    /// To say that it is held.
    reached: Option<watch::Sender<bool>>,
    thawed: watch::Receiver<u64>,
}

impl Happening {
    /// Until it thaws.
    pub(super) async fn hold(mut self) {
        if let Some(reached) = self.reached {
            reached.send_replace(true);
        }
        let _ = self.thawed.changed().await;
    }
}

/// What was asked for and has not happened.
#[derive(Debug)]
pub(super) struct Faults {
    waiting: Vec<Waiting>,
    /// How often everything thawed.
    thaws: watch::Sender<u64>,
}

#[derive(Debug)]
struct Waiting {
    at: At,
    times: usize,
    fault: Fault,
    reached: Option<watch::Sender<bool>>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { waiting: Vec::new(), thaws: watch::Sender::new(0) }
    }
}

impl Faults {
    pub(super) fn add(&mut self, at: At, times: usize, fault: Fault) {
        self.waiting.push(Waiting { at, times, fault, reached: None });
    }

    pub(super) fn freeze(&mut self, at: At, moment: Moment) -> Frozen {
        let (reached, told) = watch::channel(false);
        self.waiting.push(Waiting { at, times: 1, fault: Fault::Freeze(moment), reached: Some(reached) });
        Frozen::new(told)
    }

    pub(super) fn thaw(&mut self) {
        self.waiting.clear();
        self.thaws.send_modify(|times| *times += 1);
    }

    /// The fault for this request, if it has one; it is used up.
    pub(super) fn take(&mut self, seen: &Seen<'_>) -> Option<Happening> {
        let index = self.waiting.iter().position(|waiting| waiting.times > 0 && waiting.at.fits(seen))?;
        let waiting = self.waiting.get_mut(index)?;
        waiting.times -= 1;
        Some(Happening { fault: waiting.fault.clone(), reached: waiting.reached.clone(), thawed: self.thaws.subscribe() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_method_and_path() {
        let fits = |method: &str, pattern: &str, path: &str| {
            At::call(method, pattern).fits(&Seen { request: 1, mutation: None, method: "GET", path })
        };
        assert!(fits("GET", "/v2/databases/*/users", "/v2/databases/1/users"));
        assert!(!fits("GET", "/v2/databases/*", "/v2/databases/1/users"));
        assert!(fits("*", "/v2/databases/**", "/v2/databases/1/users"));
        assert!(!fits("POST", "/v2/databases", "/v2/databases"));
    }
}
