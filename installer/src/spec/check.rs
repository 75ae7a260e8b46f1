//! What the file's words alone can have wrong.

use std::fmt;

use super::{ChartVersion, Expose, Spec};

/// All of them; a line each, with the key and the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

const DAYS: &[&str] = &["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl Spec {
    /// Reads and checks the text of a file.
    ///
    /// # Errors
    /// A word that the YAML or its types cannot have, with line and column; else every mistake that the values have.
    pub fn read(text: &str) -> Result<Self, Mistakes> {
        let spec: Self = serde_saphyr::from_str(text).map_err(|error| Mistakes(vec![error.to_string()]))?;
        let mistakes = spec.mistakes();
        if mistakes.is_empty() { Ok(spec) } else { Err(Mistakes(mistakes)) }
    }

    fn mistakes(&self) -> Vec<String> {
        let mut found = Found(Vec::new());
        found.unless(
            !self.cluster.trim().is_empty(),
            "cluster",
            "is empty; write the name or id that `doctl kubernetes cluster list` shows",
        );
        found.label("namespace", &self.namespace);
        found.label("harbor.release", &self.harbor.release);
        self.databases(&mut found);
        self.spaces(&mut found);
        self.harbor(&mut found);
        found.0
    }

    fn databases(&self, found: &mut Found) {
        for (key, nodes, size, adopt, maintenance) in [
            ("postgres", self.postgres.nodes, &self.postgres.size, &self.postgres.adopt, &self.postgres.maintenance),
            ("valkey", self.valkey.nodes, &self.valkey.size, &self.valkey.adopt, &self.valkey.maintenance),
        ] {
            found.unless((1..=3).contains(&nodes), &format!("{key}.nodes"), "must be 1, 2 or 3");
            let standby = nodes > 1 && size.ends_with("-1gb") && adopt.is_none();
            found.unless(!standby, &format!("{key}.size"), "a plan with 1 GB has no standby nodes; take one with 2 GB, or nodes: 1");
            let day = DAYS.contains(&maintenance.day.as_str());
            found.unless(day, &format!("{key}.maintenance.day"), "must be a day of the week in English, in lower case");
            found.unless(is_hour(&maintenance.hour), &format!("{key}.maintenance.hour"), "must be a time of day such as \"03:00\", UTC");
        }
        found.identifier("postgres.database", &self.postgres.database);
        found.identifier("postgres.user", &self.postgres.user);
        let own = self.postgres.user != "doadmin";
        found.unless(own, "postgres.user", "must not be the administrator of the database; Harbor needs a user of its own");
    }

    fn spaces(&self, found: &mut Found) {
        if let Some(bucket) = &self.spaces.adopt {
            let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            let good = (3..=63).contains(&bucket.len()) && bucket.bytes().all(allowed);
            found.unless(good, "spaces.adopt", "a bucket's name has 3 to 63 lower-case letters, digits and hyphens");
        }
    }

    fn harbor(&self, found: &mut Found) {
        let harbor = &self.harbor;
        let known = harbor.chart.major == 1 && (ChartVersion::OLDEST.minor..=ChartVersion::NEWEST.minor).contains(&harbor.chart.minor);
        let why = format!(
            "{} is not known; the values of charts {} to 1.{}.x are",
            harbor.chart,
            ChartVersion::OLDEST,
            ChartVersion::NEWEST.minor
        );
        found.unless(known, "harbor.chart", &why);
        found.unless((1..=20).contains(&harbor.replicas), "harbor.replicas", "must be 1 to 20");
        found.unless(
            harbor.host.is_some() || harbor.expose == Expose::ClusterIp,
            "harbor.host",
            &format!("is needed for expose: {}; write the name that docker will use, such as harbor.example.com", harbor.expose.word()),
        );
        if let Some(host) = &harbor.host {
            let good = !host.is_empty()
                && host.len() <= 253
                && host.split('.').all(is_label)
                && host.bytes().any(|byte| byte.is_ascii_alphabetic());
            found.unless(good, "harbor.host", "must be a plain name such as harbor.example.com: no scheme, no port, no path");
        }
        if harbor.expose == Expose::Route {
            found.unless(harbor.chart.at_least(18), "harbor.expose", "route needs chart 1.18 or newer");
            let named =
                harbor.gateway.as_deref().is_some_and(|gateway| gateway.split('/').count() == 2 && gateway.split('/').all(is_label));
            found.unless(named, "harbor.gateway", "is needed for expose: route, as namespace/name");
        }
        if let Some(secret) = &harbor.tls_secret {
            found.label("harbor.tls_secret", secret);
        }
        found.unless(!self.proxy.image.trim().is_empty(), "proxy.image", "is empty");
    }
}

struct Found(Vec<String>);

impl Found {
    fn unless(&mut self, holds: bool, key: &str, why: &str) {
        if !holds {
            self.0.push(format!("{key}: {why}"));
        }
    }

    fn label(&mut self, key: &str, value: &str) {
        self.unless(is_label(value), key, "must have 1 to 63 lower-case letters, digits and hyphens, as Kubernetes wants names");
    }

    /// PostgreSQL's own, unquoted: Harbor's migrations do not quote them.
    fn identifier(&mut self, key: &str, value: &str) {
        let mut bytes = value.bytes();
        let begins = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let good = begins && value.len() <= 63 && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        self.unless(good, key, "must have lower-case letters, digits and _, begin with a letter, and be 63 long at most");
    }
}

/// RFC 1123.
fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_hour(text: &str) -> bool {
    let Some((hour, minute)) = text.split_once(':') else { return false };
    let two = |text: &str, below: u8| text.len() == 2 && text.parse::<u8>().is_ok_and(|number| number < below);
    two(hour, 24) && two(minute, 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        Spec::read(text).map_or_else(|mistakes| mistakes.0, |_| Vec::new())
    }

    #[test]
    fn a_name_is_enough() {
        let spec = Spec::read("cluster: production\n").unwrap();
        assert_eq!((spec.namespace.as_str(), spec.harbor.expose, spec.harbor.chart), ("harbor", Expose::ClusterIp, ChartVersion::NEWEST));
        assert_eq!(Spec::read(&serde_saphyr::to_string(&spec).unwrap()).unwrap(), spec);
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_key() {
        let text = "cluster: ''\nnamespace: Harbor\npostgres: {nodes: 4, size: db-s-1vcpu-1gb, user: doadmin, database: a-b}\n\
                    valkey: {maintenance: {day: Sonntag, hour: '3'}}\nspaces: {adopt: My_Bucket}\n\
                    harbor: {chart: 1.20.0, expose: route, replicas: 0, host: 'https://x'}\n";
        let keys: Vec<_> = mistakes(text).iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
        for key in [
            "cluster",
            "namespace",
            "postgres.nodes",
            "postgres.size",
            "postgres.user",
            "postgres.database",
            "valkey.maintenance.day",
            "valkey.maintenance.hour",
            "spaces.adopt",
            "harbor.chart",
            "harbor.replicas",
            "harbor.host",
            "harbor.gateway",
        ] {
            assert!(keys.iter().any(|found| found == key), "{key} is not among {keys:?}");
        }
    }

    #[test]
    fn unknown_words_are_refused_with_their_place() {
        let told = mistakes("cluster: x\npostgres:\n  sise: db\n");
        assert!(told[0].contains("sise") && told[0].contains('3'), "{told:?}");
        assert!(mistakes("cluster: x\nharbor: {chart: '1.19'}\n")[0].contains("three numbers"));
        assert!(mistakes("cluster: x\nharbor: {expose: ingress}\n")[0].starts_with("harbor.host"));
        assert!(!mistakes("").is_empty() && mistakes("namespace: harbor\n")[0].contains("cluster"));
    }
}
