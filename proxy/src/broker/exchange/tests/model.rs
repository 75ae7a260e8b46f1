//! A small PostgreSQL: one session in memory that reads the frontend's messages and answers as the server's own main loop does.
//!
//! It knows a dozen statements (see [`Session::run`]). A row repeats what it was asked with and the settings it was computed under, so that an
//! answer that goes to the wrong client, or is computed under another's settings, looks wrong.

use std::collections::BTreeMap;

use bytes::BytesMut;

use crate::postgres::reply;

/// What sessions share.
#[derive(Default)]
pub(super) struct World {
    /// Counts changes of the table that `star` reads.
    pub version: u64,
    /// What was written by transactions that were committed.
    pub log: Vec<String>,
}

/// `TimeZone`, which is reported, and `work_mem`, which is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub zone: String,
    pub memory: String,
}

impl Settings {
    fn find(&mut self, name: &str) -> Option<&mut String> {
        match name.to_ascii_lowercase().as_str() {
            "timezone" => Some(&mut self.zone),
            "work_mem" => Some(&mut self.memory),
            _ => None,
        }
    }
}

#[derive(Clone)]
struct Statement {
    text: String,
    version: u64,
}

struct Portal {
    text: String,
    /// Of the table that it reads, if it reads one.
    version: u64,
    tag: String,
    /// Rows still to come; `None`: not run yet.
    left: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Block {
    None,
    Open,
    Failed,
}

/// An error: its code, its text.
type Refused = (&'static str, String);
type Done = Result<(), Refused>;

fn no<T>(code: &'static str, text: impl Into<String>) -> Result<T, Refused> {
    Err((code, text.into()))
}

pub(super) struct Session {
    statements: BTreeMap<String, Statement>,
    portals: BTreeMap<String, Portal>,
    block: Block,
    /// Written in the transaction.
    pending: Vec<String>,
    /// Something has run in the implicit transaction.
    ran: bool,
    /// A COPY from the client: what it was asked with, and whether by a Query.
    copy: Option<(String, bool)>,
    skipping: bool,
    defaults: Settings,
    pub settings: Settings,
    /// To go back to: if the transaction fails, and when it ends.
    before: Option<Settings>,
    after: Option<Settings>,
    told: String,
    /// Settings are reported with ReadyForQuery (since 14), not at once.
    late: bool,
    pub locks: u32,
    input: BytesMut,
    pub out: BytesMut,
}

impl Session {
    pub(super) fn new(defaults: Settings, late: bool) -> Self {
        Self {
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            block: Block::None,
            pending: Vec::new(),
            ran: false,
            copy: None,
            skipping: false,
            settings: defaults.clone(),
            told: defaults.zone.clone(),
            defaults,
            before: None,
            after: None,
            late,
            locks: 0,
            input: BytesMut::new(),
            out: BytesMut::new(),
        }
    }

    /// Takes some of a stream; answers what is whole.
    pub(super) fn take(&mut self, bytes: &[u8], world: &mut World) {
        self.input.extend_from_slice(bytes);
        while let Some(head) = self.input.first_chunk::<5>() {
            let total = 1 + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            if self.input.len() < total {
                break;
            }
            let message = self.input.split_to(total);
            self.message(message[0], &message[5..], world);
        }
    }

    /// As after DISCARD ALL.
    pub(super) fn discard(&mut self) {
        self.statements.retain(|name, _| name.is_empty());
        self.settings = self.defaults.clone();
        self.told.clone_from(&self.settings.zone);
        self.locks = 0;
    }

    /// The names of what is prepared, the unnamed one left out.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.statements.keys().map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Nothing is half read, half done or half skipped.
    pub(super) fn is_clean(&self) -> bool {
        self.block == Block::None && self.pending.is_empty() && self.copy.is_none() && !self.skipping && self.input.is_empty() && !self.ran
    }

    pub(super) fn has_failed(&self) -> bool {
        self.block == Block::Failed
    }

    pub(super) fn is_in_block(&self) -> bool {
        self.block != Block::None
    }

    /// DISCARD ALL or DEALLOCATE ALL.
    pub(super) fn drops_all(&self, name: &str) -> bool {
        self.statements.get(name).is_some_and(|statement| statement.text.ends_with(" ALL"))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.statements.contains_key(name)
    }

    fn message(&mut self, kind: u8, body: &[u8], world: &mut World) {
        if let Some((tag, by_query)) = self.copy.clone() {
            match kind {
                b'd' | b'S' | b'H' => {}
                b'c' => {
                    self.copy = None;
                    self.pending.push(format!("copied {tag}"));
                    reply::command_complete(&mut self.out, "COPY 1");
                    if by_query {
                        self.end_of_query(world);
                    }
                }
                b'f' => {
                    self.copy = None;
                    self.fails(("57014", "COPY from stdin failed".into()), by_query);
                }
                other => {
                    self.copy = None;
                    self.fails(("08P01", format!("unexpected message type 0x{other:02X} during COPY from stdin")), by_query);
                }
            }
            return;
        }
        match kind {
            b'd' | b'c' | b'f' => {}
            b'S' => {
                self.skipping = false;
                if self.block == Block::None {
                    self.commit(world);
                }
                self.ready();
            }
            _ if self.skipping => {}
            b'Q' => {
                let tag = text(body, 0);
                match self.query(&tag, world) {
                    Ok(()) if self.copy.is_some() => {}
                    Ok(()) => self.end_of_query(world),
                    Err(error) => self.fails(error, true),
                }
            }
            b'F' => {
                reply::message(&mut self.out, b'V', |out| out.extend_from_slice(&[0xff; 4]));
                self.end_of_query(world);
            }
            b'H' => {}
            _ => {
                let done = match kind {
                    b'P' => self.parse(body, world),
                    b'B' => self.bind(body, world),
                    b'D' => self.describe(body, world),
                    b'E' => self.execute(body, world),
                    b'C' => {
                        let name = text(body, 1);
                        if body[0] == b'S' {
                            self.statements.remove(&name);
                        } else {
                            self.portals.remove(&name);
                        }
                        reply::close_complete(&mut self.out);
                        Ok(())
                    }
                    other => panic!("message {other}"),
                };
                if let Err(error) = done {
                    self.fails(error, false);
                }
            }
        }
    }

    fn end_of_query(&mut self, world: &mut World) {
        if self.block == Block::None {
            self.commit(world);
        }
        self.ready();
    }

    fn ready(&mut self) {
        if self.late {
            self.report();
        }
        let status = match self.block {
            Block::None => reply::Status::Idle,
            Block::Open => reply::Status::InTransaction,
            Block::Failed => reply::Status::Failed,
        };
        reply::ready_for_query(&mut self.out, status);
    }

    fn report(&mut self) {
        if self.told != self.settings.zone {
            self.told.clone_from(&self.settings.zone);
            reply::parameter_status(&mut self.out, b"TimeZone", self.told.as_bytes());
        }
    }

    fn commit(&mut self, world: &mut World) {
        world.log.append(&mut self.pending);
        if let Some(settings) = self.after.take() {
            self.settings = settings;
        }
        self.before = None;
        self.end();
    }

    fn abort(&mut self) {
        self.pending.clear();
        if let Some(settings) = self.before.take() {
            self.settings = settings;
        }
        self.after = None;
        self.end();
    }

    fn end(&mut self) {
        self.block = Block::None;
        self.ran = false;
        self.portals.clear();
        if !self.late {
            self.report();
        }
    }

    fn fails(&mut self, (code, what): Refused, in_query: bool) {
        reply::message(&mut self.out, b'E', |out| {
            // As the server names the place where it was found out.
            let place = if code == "0A000" { "RRevalidateCachedQuery\0" } else { "" };
            out.extend_from_slice(format!("SERROR\0VERROR\0C{code}\0M{what}\0{place}\0").as_bytes());
        });
        let block = self.block;
        self.abort();
        if block != Block::None {
            self.block = Block::Failed;
        }
        if in_query { self.ready() } else { self.skipping = true }
    }

    fn query(&mut self, tag: &str, world: &mut World) -> Done {
        self.statements.remove("");
        self.portals.remove("");
        let parts: Vec<&str> = tag.split(';').map(str::trim).filter(|part| !part.is_empty()).collect();
        if parts.contains(&"syntax") {
            return no("42601", "syntax error");
        }
        if parts.is_empty() {
            reply::empty_query_response(&mut self.out);
        }
        for part in &parts {
            self.may_run(part)?;
            if parts.len() > 1 {
                self.ran = true;
            }
            if rows(part).is_some() {
                reply::row_description(&mut self.out, &["tag", "zone", "memory"]);
            }
            let done = self.run(part, tag, None, world)?;
            if self.copy.is_some() {
                self.copy = Some((tag.into(), true));
                return Ok(());
            }
            reply::command_complete(&mut self.out, &done);
        }
        Ok(())
    }

    fn may_run(&self, what: &str) -> Done {
        if self.block == Block::Failed && !matches!(what, "COMMIT" | "ROLLBACK") {
            return no("25P02", "current transaction is aborted, commands ignored until end of transaction block");
        }
        Ok(())
    }

    fn parse(&mut self, body: &[u8], world: &World) -> Done {
        let name = text(body, 0);
        let what = text(body, name.len() + 1);
        if name.is_empty() {
            self.statements.remove("");
        }
        if what.starts_with("syntax") {
            return no("42601", "syntax error");
        }
        self.may_run(&what)?;
        if self.statements.contains_key(&name) {
            return no("42P05", format!("prepared statement \"{name}\" already exists"));
        }
        self.statements.insert(name, Statement { text: what, version: world.version });
        reply::parse_complete(&mut self.out);
        Ok(())
    }

    fn known(&self, name: &str) -> Result<Statement, Refused> {
        match self.statements.get(name) {
            Some(statement) => Ok(statement.clone()),
            None if name.is_empty() => no("26000", "unnamed prepared statement does not exist"),
            None => no("26000", format!("prepared statement \"{name}\" does not exist")),
        }
    }

    fn is_fresh(statement: &Statement, world: &World) -> Done {
        if statement.text == "star" && statement.version != world.version {
            return no("0A000", "cached plan must not change result type");
        }
        Ok(())
    }

    fn bind(&mut self, body: &[u8], world: &World) -> Done {
        let name = text(body, 0);
        let of = text(body, name.len() + 1);
        let statement = self.known(&of)?;
        self.may_run(&statement.text)?;
        if !name.is_empty() && self.portals.contains_key(&name) {
            return no("42P03", format!("cursor \"{name}\" already exists"));
        }
        Self::is_fresh(&statement, world)?;
        let tag = parameters(&body[name.len() + of.len() + 2..]);
        self.portals.insert(name, Portal { text: statement.text, version: world.version, tag: tag.join("\0"), left: None });
        reply::bind_complete(&mut self.out);
        Ok(())
    }

    fn describe(&mut self, body: &[u8], world: &World) -> Done {
        let name = text(body, 1);
        let what = if body[0] == b'S' {
            let statement = self.known(&name)?;
            if rows(&statement.text).is_some() {
                self.may_run(&statement.text)?;
            }
            Self::is_fresh(&statement, world)?;
            reply::message(&mut self.out, b't', |out| out.extend_from_slice(&[0, 0]));
            (statement.text, statement.version)
        } else {
            let portal = self.portal(&name)?;
            (portal.text.clone(), portal.version)
        };
        let (what, version) = what;
        if what == "star" {
            reply::row_description(&mut self.out, &["tag", "zone", "memory", &star(version)]);
        } else if rows(&what).is_some() {
            reply::row_description(&mut self.out, &["tag", "zone", "memory"]);
        } else {
            reply::no_data(&mut self.out);
        }
        Ok(())
    }

    fn portal(&mut self, name: &str) -> Result<&mut Portal, Refused> {
        self.portals.get_mut(name).ok_or_else(|| ("34000", format!("portal \"{name}\" does not exist")))
    }

    fn execute(&mut self, body: &[u8], world: &mut World) -> Done {
        let name = text(body, 0);
        let most = u32::from_be_bytes(body[name.len() + 1..].try_into().unwrap());
        let portal = self.portal(&name)?;
        let (what, tag, left) = (portal.text.clone(), portal.tag.clone(), portal.left);
        self.may_run(&what)?;
        if what.is_empty() {
            reply::empty_query_response(&mut self.out);
            return Ok(());
        }
        let left = match rows(&what) {
            Some(all) => left.unwrap_or(all),
            None if left.is_some() => return no("55000", format!("portal \"{name}\" cannot be run")),
            None => 0,
        };
        let now = if most == 0 { left } else { left.min(most) };
        let done = self.run(&what, &tag, Some(now), world)?;
        self.ran = !matches!(what.as_str(), "COMMIT" | "ROLLBACK" | "DISCARD ALL");
        if let Ok(portal) = self.portal(&name) {
            portal.left = Some(left - now);
        }
        match what.as_str() {
            _ if self.copy.is_some() => self.copy = Some((tag, false)),
            _ if most != 0 && now == most => {
                reply::message(&mut self.out, b's', |_| {});
                return Ok(());
            }
            _ => {}
        }
        if self.copy.is_none() {
            reply::command_complete(&mut self.out, &done);
        }
        if what == "DISCARD ALL" {
            self.commit(world);
        }
        Ok(())
    }

    /// Runs one statement; returns its tag. `most`: so many rows.
    fn run(&mut self, what: &str, tag: &str, most: Option<u32>, world: &mut World) -> Result<String, Refused> {
        self.before.get_or_insert_with(|| self.settings.clone());
        let words: Vec<&str> = what.split(' ').collect();
        match words[..] {
            ["fail", ..] => return no("22012", "division by zero"),
            ["write", ..] => self.pending.push(tag.into()),
            ["BEGIN"] => self.block = Block::Open,
            ["COMMIT"] if self.block == Block::Failed => {
                self.abort();
                return Ok("ROLLBACK".into());
            }
            ["COMMIT"] => self.commit(world),
            ["ROLLBACK"] => self.abort(),
            ["COPY", ..] => {
                reply::message(&mut self.out, b'G', |out| out.extend_from_slice(&[0, 0, 0]));
                self.copy = Some((String::new(), false));
            }
            ["SET", "LOCAL", name, "TO", value] => {
                self.after.get_or_insert_with(|| self.settings.clone());
                *self.settings.find(name).unwrap() = value.trim_matches('\'').into();
            }
            ["SET", name, "TO", "DEFAULT"] => self.set(name, None),
            ["SET", name, "TO", value] => self.set(name, Some(value.trim_matches('\''))),
            ["RESET", "ALL"] => {
                self.set("timezone", None);
                self.set("work_mem", None);
            }
            ["RESET", name] => self.set(name, None),
            ["DEALLOCATE", "ALL"] => self.statements.retain(|name, _| name.is_empty()),
            ["DEALLOCATE", name] => {
                if self.statements.remove(name).is_none() {
                    return no("26000", format!("prepared statement \"{name}\" does not exist"));
                }
            }
            ["DISCARD", "ALL"] => {
                if self.ran || self.block != Block::None {
                    return no("25001", "DISCARD ALL cannot run inside a transaction block");
                }
                self.portals.clear();
                let told = self.told.clone();
                self.discard();
                self.told = told;
                self.before = Some(self.settings.clone());
            }
            ["PREPARE", name, ..] => {
                if self.statements.contains_key(name) {
                    return no("42P05", format!("prepared statement \"{name}\" already exists"));
                }
                self.statements.insert(name.into(), Statement { text: "rows 1".into(), version: 0 });
            }
            ["star"] => {
                let values = [tag, &self.settings.zone, &self.settings.memory, &star(world.version)];
                reply::data_row(&mut self.out, values.iter().map(|value| Some(value.as_bytes())));
            }
            ["SELECT", "pg_advisory_lock(1)"] => self.locks += 1,
            ["SELECT", "pg_advisory_unlock_all()"] => self.locks = 0,
            ["SELECT", "EXISTS", ..] => {
                let sql = self.names().any(|name| name.starts_with('q'));
                let left = [self.locks > 0, false, false, sql, false, false];
                reply::data_row(&mut self.out, left.iter().map(|is| Some(if *is { &b"t"[..] } else { b"f" })));
            }
            ["SELECT", set, ..] if set.starts_with("pg_catalog.set_config(") => {
                for pair in tag.split('\0').collect::<Vec<_>>().chunks(2) {
                    self.set(pair[0], Some(pair[1]).filter(|value| *value != "\x01"));
                }
                self.row(tag);
            }
            _ => {
                for _ in 0..most.or_else(|| rows(what)).unwrap_or(0) {
                    self.row(tag);
                }
            }
        }
        if !self.late {
            self.report();
        }
        let all = matches!(what, "DEALLOCATE ALL" | "DISCARD ALL");
        Ok(if all { what.into() } else { words[0].into() })
    }

    fn set(&mut self, name: &str, value: Option<&str>) {
        let default = self.defaults.find(name).unwrap().clone();
        for settings in self.after.iter_mut().chain([&mut self.settings]) {
            *settings.find(name).unwrap() = value.map_or_else(|| default.clone(), str::to_owned);
        }
    }

    fn row(&mut self, tag: &str) {
        let values = [tag, &self.settings.zone, &self.settings.memory];
        reply::data_row(&mut self.out, values.iter().map(|value| Some(value.as_bytes())));
    }
}

/// The column that changes: its name is its value.
fn star(version: u64) -> String {
    format!("star-v{version}")
}

/// How many rows a statement has, if it has any.
fn rows(what: &str) -> Option<u32> {
    match what.split(' ').collect::<Vec<_>>()[..] {
        ["rows", count, ..] => Some(count.parse().unwrap()),
        ["star", ..] | ["SELECT", ..] => Some(1),
        _ => None,
    }
}

/// The string at `at`.
fn text(body: &[u8], at: usize) -> String {
    let rest = &body[at..];
    let end = rest.iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(rest[..end].to_vec()).unwrap()
}

/// What is bound: each as text, NULL as `\x01`.
fn parameters(rest: &[u8]) -> Vec<String> {
    let number = |at: usize| usize::from(u16::from_be_bytes([rest[at], rest[at + 1]]));
    let mut at = 2 + 2 * number(0);
    let count = number(at);
    at += 2;
    let mut all = Vec::new();
    for _ in 0..count {
        let length = i32::from_be_bytes(rest[at..at + 4].try_into().unwrap());
        at += 4;
        match usize::try_from(length) {
            Ok(length) => {
                all.push(String::from_utf8(rest[at..at + length].to_vec()).unwrap());
                at += length;
            }
            Err(_) => all.push("\x01".into()),
        }
    }
    all
}
