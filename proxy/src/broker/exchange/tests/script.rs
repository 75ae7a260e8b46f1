//! What clients do, at random: each step is made knowing what a server of the client's own would say to it.

use fastrand::Rng;

use super::model::{Session, Settings, World};
use super::{close, msg, parse, query, sync};

/// Sent in one go, once so many answers have come.
pub(super) struct Step {
    pub bytes: Vec<u8>,
    pub wait: usize,
    /// In one piece: a batch that is sent once more has to be there when it fails.
    pub whole: bool,
}

/// A client's whole visit, and what it is to hear and to leave.
pub(super) struct Script {
    pub steps: Vec<Step>,
    /// What its settings are without SET.
    pub defaults: Settings,
    pub heard: Vec<Heard>,
    pub log: Vec<String>,
    pub settings: Settings,
}

/// A message as a client sees it: settings are heard when the next ReadyForQuery comes, whatever their place before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    kind: char,
    body: String,
    zone: String,
}

/// What is heard in `bytes`, whole messages, by a client with these defaults.
pub(super) fn hear(bytes: &[u8], defaults: &Settings) -> Vec<Heard> {
    let mut zone = defaults.zone.clone();
    let (mut all, mut rest) = (Vec::new(), bytes);
    while let Some(head) = rest.first_chunk::<5>() {
        let total = 1 + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if rest.len() < total {
            break;
        }
        let mut body = rest[5..total].escape_ascii().to_string();
        // On a server of its own no table changes: see `shapes`.
        if let Some(at) = body.find("star-v") {
            body.truncate(at);
        }
        if head[0] == b'S' {
            let parts: Vec<_> = rest[5..total].split(|byte| *byte == 0).collect();
            assert_eq!(parts[0], b"TimeZone");
            zone = String::from_utf8(parts[1].to_vec()).unwrap();
        } else {
            let zone = if head[0] == b'Z' { zone.clone() } else { String::new() };
            all.push(Heard { kind: head[0].into(), body, zone });
        }
        rest = &rest[total..];
    }
    all
}

struct Writer<'a> {
    rng: &'a mut Rng,
    id: usize,
    tags: usize,
    /// Uses statements that become stale.
    stars: bool,
    direct: Session,
    world: World,
    heard: Vec<u8>,
    steps: Vec<Step>,
    wait: usize,
    defaults: Settings,
}

const NAMES: [&str; 4] = ["", "a", "b", "c"];

impl Script {
    pub(super) fn random(rng: &mut Rng, id: usize, base: &Settings, most: usize) -> Self {
        let differs = rng.u8(..3) == 0;
        let mut defaults = base.clone();
        if differs {
            defaults = Settings { zone: format!("D{}", rng.u8(..2)), memory: format!("{}", rng.u8(7..9)) };
        }
        let late = rng.bool();
        let direct = Session::new(defaults.clone(), late);
        let stars = rng.bool();
        let mut writer = Writer {
            rng,
            id,
            tags: 0,
            stars,
            direct,
            world: World::default(),
            heard: Vec::new(),
            steps: Vec::new(),
            wait: 0,
            defaults: defaults.clone(),
        };
        let count = writer.rng.usize(1..=most);
        while writer.steps.len() < count {
            writer.step();
        }
        let heard = hear(&writer.heard, &defaults);
        Self { steps: writer.steps, heard, defaults, log: writer.world.log, settings: writer.direct.settings }
    }
}

impl Writer<'_> {
    fn tag(&mut self) -> String {
        self.tags += 1;
        format!("c{}-{}", self.id, self.tags)
    }

    fn count(&self) -> usize {
        hear(&self.heard, &self.defaults).len()
    }

    /// Sends; the next waits for the answers (`Some(true)`), does not, or as it comes.
    fn send(&mut self, bytes: Vec<u8>, wait: Option<bool>) {
        self.direct.take(&bytes, &mut self.world);
        let heard = self.direct.out.split();
        let failed = hear(&heard, &self.defaults).iter().any(|one| one.kind == 'E');
        self.heard.extend(heard);
        self.steps.push(Step { bytes, wait: self.wait, whole: false });
        // What is sent before a batch is known to have failed counts on what that batch was to prepare.
        let wait = if failed { Some(true) } else { wait };
        if wait.unwrap_or_else(|| self.rng.u8(..10) < 6) {
            self.wait = self.count();
        }
    }

    fn step(&mut self) {
        match self.rng.u8(..100) {
            0..30 => {
                let text = self.text(true);
                self.send(query(&text), None);
            }
            30..55 => self.usual(),
            55..80 => self.odd(),
            80..88 => self.copy(),
            88..97 if self.stars => self.star(),
            97 => self.send(sync(), None),
            98 if !self.stars => self.send(msg(b'F', &[0; 10]), None),
            99 => self.send(msg(b'f', b"late\0"), Some(false)),
            _ => self.usual(),
        }
    }

    /// A statement's text; in a Query of its own it names its sender.
    fn text(&mut self, alone: bool) -> String {
        let tag = if alone { format!(" {}", self.tag()) } else { String::new() };
        let number = self.rng.u8(1..4);
        let mine = format!("q{}", self.id);
        let name = *self.rng.choice(&["a", "b", "c", mine.as_str()]).unwrap();
        match self.rng.u8(..39) {
            0..9 => format!("rows {number}{tag}"),
            9..14 => format!("write{tag}"),
            14 | 15 => format!("fail{tag}"),
            16 => "syntax".into(),
            17 | 18 => "BEGIN".into(),
            19 | 20 => "COMMIT".into(),
            21 => "ROLLBACK".into(),
            22 | 23 => format!("SET timezone TO 'Z{number}'"),
            24 | 25 => format!("SET work_mem TO '{number}'"),
            26 => format!("SET LOCAL work_mem TO '{number}'"),
            27 => (*self.rng.choice(&["RESET timezone", "RESET work_mem", "RESET ALL"]).unwrap()).into(),
            28 => "DISCARD ALL".into(),
            29 => "DEALLOCATE ALL".into(),
            30 if alone => format!("DEALLOCATE {name}"),
            // While it is asked what a pinned client has left, nothing can be sent once more.
            31 if !self.stars => format!("PREPARE {mine} AS rows 1"),
            32 if !self.stars => (*self.rng.choice(&["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock_all()"]).unwrap()).into(),
            33 if alone => format!("write{tag}; SET work_mem TO '{number}'; rows 1"),
            34 if alone => format!("write{tag}; BEGIN; fail"),
            35 => String::new(),
            36 => "SET work_mem TO DEFAULT".into(),
            37 if alone => format!("write{tag}; RESET ALL"),
            38 if alone => "COMMIT; RESET ALL".into(),
            _ => format!("rows {number}{tag}"),
        }
    }

    fn bind(&mut self, portal: &str, name: &str) -> Vec<u8> {
        let tag = self.tag();
        let mut body = format!("{portal}\0{name}\0\0\0\0\x01\0\0\0").into_bytes();
        body.push(u8::try_from(tag.len()).unwrap());
        body.extend_from_slice(tag.as_bytes());
        body.extend_from_slice(&[0, 0]);
        msg(b'B', &body)
    }

    fn execute(&mut self, portal: &str) -> Vec<u8> {
        let most = if self.rng.u8(..3) == 0 { self.rng.u8(1..3) } else { 0 };
        msg(b'E', format!("{portal}\0\0\0\0{}", char::from(most)).as_bytes())
    }

    /// As drivers do it.
    fn usual(&mut self) {
        let name = *self.rng.choice(&NAMES).unwrap();
        let mut parts = Vec::new();
        let knows = self.direct.has(name);
        if !self.direct.has_failed() && (!knows || self.rng.u8(..5) == 0) {
            if knows && self.rng.bool() {
                parts.push(close(name));
            }
            let text = self.text(false);
            parts.push(parse(name, &text));
        }
        let describes = self.rng.u8(..4);
        if describes == 0 && !self.direct.has_failed() {
            parts.push(super::describe(name));
            if self.rng.bool() {
                parts.push(sync());
                self.send(std::mem::take(&mut parts).concat(), None);
            }
        }
        parts.push(self.bind("", name));
        if describes == 1 {
            parts.push(msg(b'D', b"P\0"));
        }
        parts.push(msg(b'E', b"\0\0\0\0\0"));
        parts.push(sync());
        self.send(parts.concat(), None);
    }

    /// As nobody does it.
    fn odd(&mut self) {
        let mut parts = Vec::new();
        for _ in 0..self.rng.usize(1..8) {
            let name = *self.rng.choice(&NAMES).unwrap();
            let portal = *self.rng.choice(&["", "", "", "p"]).unwrap();
            let may_parse = !self.direct.has_failed();
            let part = match self.rng.u8(..20) {
                0..5 if may_parse => {
                    let text = self.text(false);
                    parse(name, &text)
                }
                // What drops all statements is run as drivers run it: see `usual`.
                5..10 if !self.direct.drops_all(name) => self.bind(portal, name),
                10..14 => self.execute(portal),
                14 if may_parse => super::describe(name),
                15 => msg(b'D', format!("P{portal}\0").as_bytes()),
                16 => close(name),
                17 => msg(b'C', format!("P{portal}\0").as_bytes()),
                18 => self.bind("", &format!("q{}", self.id)),
                _ => msg(b'H', b""),
            };
            parts.push(part);
        }
        match self.rng.u8(..12) {
            0 => {
                // One that drops all statements and is skipped leaves names behind that are not used again.
                let text = Some(self.text(true)).filter(|text| !text.ends_with(" ALL"));
                parts.push(query(&text.unwrap_or_default()));
                parts.push(sync());
                self.send(parts.concat(), None);
                // One that was skipped counts as one that has ended the unnamed statement.
                parts = vec![close(""), sync()];
            }
            1 => {
                parts.push(msg(b'H', b""));
                self.send(parts.concat(), None);
                parts = vec![sync()];
            }
            _ => parts.push(sync()),
        }
        self.send(parts.concat(), None);
    }

    fn copy(&mut self) {
        let text = "COPY t FROM STDIN";
        let by_query = self.rng.bool();
        let early = self.rng.bool();
        if by_query {
            self.send(query(text), None);
        } else if self.direct.has_failed() {
            return;
        } else {
            let mut parts = vec![parse("", text), self.bind("", ""), msg(b'E', b"\0\0\0\0\0")];
            if early {
                parts.push(sync());
            }
            self.send(parts.concat(), None);
        }
        let mut parts = Vec::new();
        for _ in 0..self.rng.usize(..3) {
            let tag = self.tag();
            parts.push(msg(b'd', tag.as_bytes()));
            if self.rng.u8(..4) == 0 {
                parts.push(msg(b'H', b""));
            }
        }
        if !by_query && self.rng.u8(..4) == 0 {
            parts.push(sync());
        }
        let failed = self.rng.u8(..3) == 0;
        parts.push(if failed { msg(b'f', b"no\0") } else { msg(b'c', b"") });
        if !by_query {
            parts.push(sync());
        }
        self.send(parts.concat(), None);
        if !by_query {
            // It must not begin again by chance.
            self.send([close(""), sync()].concat(), None);
        }
    }

    /// A statement that others may have prepared, and that is stale since.
    fn star(&mut self) {
        if !self.stars || self.direct.is_in_block() || !self.direct.is_clean() {
            return;
        }
        let name = *self.rng.choice(&["s", "t"]).unwrap();
        if self.direct.has(name) {
            // Who has prepared it before is to hear of it.
            self.send([close(name), sync()].concat(), None);
        }
        self.wait = self.count();
        let mut parts = vec![parse(name, "star")];
        if self.rng.bool() {
            parts.push(super::describe(name));
        }
        parts.push(self.bind("", name));
        parts.push(msg(b'E', b"\0\0\0\0\0"));
        parts.push(sync());
        self.send(parts.concat(), Some(true));
        if let Some(step) = self.steps.last_mut() {
            step.whole = true;
        }
    }
}
