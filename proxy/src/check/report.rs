//! What `check` found, and its JSON. [pure]
//!
//! The JSON keys are a promise; new ones may come, none will change its meaning:
//!
//! | key | meaning |
//! |---|---|
//! | `ok` | no step failed (warnings allowed) |
//! | `listeners[].name`, `.protocol`, `.upstream`, `.ok` | the listener's name, `redis`/`postgresql`/`tls`, `host:port` |
//! | `listeners[].steps[].step` | `configuration` (only when it failed), `dns`, `tcp`, `tls`, `resumption`, `login`, `server`, `round_trip` |
//! | `….status` | `ok`, `warn`, `fail`, `not_tried` |
//! | `….milliseconds` | how long it took; null when not tried |
//! | `….says`, `….cure` | one line for people; what to do, null unless it failed |
//! | `….warnings` | one line each |
//! | `….facts` | by step, each only where known: |
//! | dns | `addresses` |
//! | tcp | `addresses[]`: `address`, `milliseconds`, `error` |
//! | tls | `version`, `cipher`, `group`, `alpn`, `verified_name`, `names`, `expires`, `days_left`, `chain[]`: `subject`, `issuer`, `expires` |
//! | resumption | `resumed` |
//! | login | `credentials` (the proxy has some), `user` |
//! | server, Redis | `software`, `version`, `mode`, `clients`, `max_clients`, `timeout_seconds` |
//! | server, PostgreSQL | `version`, `tls`, `in_use`, `max_connections`, `superuser_reserved_connections`, `standby` |
//! | round_trip | `count`, `p50_milliseconds`, `p99_milliseconds` |

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Error, Kind};

/// What was done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// Files are read.
    Configuration,
    /// The name's addresses.
    Dns,
    /// A connection to each.
    Tcp,
    /// A verified handshake.
    Tls,
    /// A second, shorter handshake.
    Resumption,
    /// The proxy's own login.
    Login,
    /// What the server says of itself.
    Server,
    /// Pings.
    RoundTrip,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Well.
    Ok,
    /// Well, but somebody should look.
    Warn,
    /// Not at all.
    Fail,
    /// It was not its turn.
    NotTried,
}

/// The outcome of a step.
#[derive(Debug, Serialize)]
pub struct Finding {
    pub(super) status: Status,
    pub(super) says: String,
    pub(super) cure: Option<String>,
    warnings: Vec<String>,
    facts: Map<String, Value>,
    /// Rows below the step's own: is it a warning, label, text.
    #[serde(skip)]
    pub(super) lines: Vec<(bool, &'static str, String)>,
    /// Where the step knows better than a clock around it.
    #[serde(skip)]
    took: Option<Duration>,
}

impl Finding {
    fn new(status: Status, says: impl Into<String>) -> Self {
        Self { status, says: says.into(), cure: None, warnings: Vec::new(), facts: Map::new(), lines: Vec::new(), took: None }
    }

    /// It went well.
    pub fn ok(says: impl Into<String>) -> Self {
        Self::new(Status::Ok, says)
    }

    /// It did not.
    pub fn fail(says: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { cure: Some(cure.into()), ..Self::new(Status::Fail, says) }
    }

    /// It was left out, and why.
    pub fn not_tried(why: impl Into<String>) -> Self {
        Self::new(Status::NotTried, why)
    }

    /// How long it took, without what was done besides.
    #[must_use]
    pub fn took(mut self, took: Duration) -> Self {
        self.took = Some(took);
        self
    }

    /// For programs.
    #[must_use]
    pub fn fact(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(key.to_owned(), value.into());
        self
    }

    /// For people.
    #[must_use]
    pub fn line(mut self, label: &'static str, text: impl Into<String>) -> Self {
        self.lines.push((false, label, text.into()));
        self
    }

    /// For both.
    #[must_use]
    pub fn warn(mut self, label: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        self.warnings.push(text.clone());
        self.lines.push((true, label, text));
        if self.status == Status::Ok {
            self.status = Status::Warn;
        }
        self
    }
}

impl From<Error> for Box<Finding> {
    /// Our errors say `what; what to do` where they know a cure.
    fn from(error: Error) -> Self {
        let general = match error.kind {
            Kind::Dns => "check the name for typing errors, and this machine's resolver (/etc/resolv.conf)",
            Kind::Timeout => "is the server up and not overloaded, and does a firewall between swallow packets?",
            Kind::Io => "the server or something between closed the connection; see the server's log",
            Kind::Login => "check the credentials of this upstream",
            Kind::Protocol => "is this the right port, and the right scheme in the URL?",
            _ => "see the server's log",
        };
        let (says, cure) = error.why.rsplit_once("; ").unwrap_or((&error.why, general));
        Self::new(Finding::fail(says, cure))
    }
}

/// A step and its outcome.
#[derive(Debug, Serialize)]
pub struct Step {
    pub(super) step: Name,
    #[serde(serialize_with = "as_milliseconds")]
    pub(super) milliseconds: Option<Duration>,
    #[serde(flatten)]
    pub(super) finding: Finding,
}

impl Step {
    /// `took`: none where nothing was tried.
    #[must_use]
    pub fn new(step: Name, took: Option<Duration>, finding: Finding) -> Self {
        Self { step, milliseconds: finding.took.or(took), finding }
    }
}

/// Milliseconds with microseconds behind the point, for JSON.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn as_milliseconds<S: serde::Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(milliseconds).serialize(serializer)
}

/// What was found out about one listener's upstream.
#[derive(Debug, Serialize)]
pub struct Listener {
    pub(super) name: String,
    pub(super) protocol: &'static str,
    pub(super) upstream: String,
    ok: bool,
    pub(super) steps: Vec<Step>,
}

impl Listener {
    /// `upstream` is `host:port`; `names` are all steps that there are: those that are not among `steps` were not tried.
    #[must_use]
    pub fn new(name: &str, protocol: &'static str, upstream: String, mut steps: Vec<Step>, names: &[Name]) -> Self {
        let ok = steps.iter().all(|step| step.finding.status != Status::Fail);
        for name in names {
            if steps.iter().all(|step| step.step != *name) {
                steps.push(Step::new(*name, None, Finding::not_tried("not tried")));
            }
        }
        Self { name: name.to_owned(), protocol, upstream, ok, steps }
    }

    /// Where it failed first.
    pub(super) fn failed_at(&self) -> Option<Name> {
        self.steps.iter().find(|step| step.finding.status == Status::Fail).map(|step| step.step)
    }

    pub(super) fn warns(&self) -> bool {
        self.steps.iter().any(|step| step.finding.status == Status::Warn)
    }
}

/// Everything that was found out.
#[derive(Debug, Serialize)]
pub struct Report {
    ok: bool,
    pub(super) listeners: Vec<Listener>,
}

impl Report {
    /// In the order of the configuration.
    #[must_use]
    pub fn new(listeners: Vec<Listener>) -> Self {
        Self { ok: listeners.iter().all(|listener| listener.ok), listeners }
    }

    /// No step failed.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.ok
    }

    /// One document, ends with a newline.
    #[must_use]
    pub fn json(&self) -> String {
        // Plain structs with string keys: there is nothing that could fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const STEPS: [Name; 3] = [Name::Dns, Name::Tcp, Name::Tls];

    pub(in crate::check) fn report() -> Report {
        let dns = Finding::ok("192.0.2.1").fact("addresses", vec!["192.0.2.1"]).warn("note", "one \x1b[31maddress");
        let error = Error::upstream(Kind::Tcp, "192.0.2.1:6379: refused; open the port");
        let steps = vec![
            Step::new(Name::Dns, Some(Duration::from_micros(300)), dns),
            Step::new(Name::Tcp, Some(Duration::from_millis(20)), *Box::<Finding>::from(error)),
        ];
        Report::new(vec![Listener::new("redis-6379", "redis", "db.example:6379".into(), steps, &STEPS)])
    }

    #[test]
    fn json_has_the_documented_keys() {
        let json: Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(json["ok"], false);
        let steps = &json["listeners"][0]["steps"];
        assert_eq!((&steps[0]["step"], &steps[0]["status"], &steps[0]["milliseconds"]), (&"dns".into(), &"warn".into(), &0.3.into()));
        assert_eq!(steps[0]["facts"]["addresses"][0], "192.0.2.1");
        assert_eq!((&steps[1]["status"], &steps[1]["cure"]), (&"fail".into(), &"open the port".into()));
        assert_eq!((&steps[2]["status"], &steps[2]["milliseconds"]), (&"not_tried".into(), &Value::Null));
    }
}
