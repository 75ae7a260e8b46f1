//! One of the many: transactions of every kind without end, each answer checked to the byte; now and then it dies in the middle.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::ledger::{Fate, Ledger};
use crate::pg_modes::message::{bind, cancel, close, copy_data, copy_done, execute, flush, parse, query, run, sync, unnamed};
use crate::pg_modes::{Client, PASSWORD, USER};
use crate::support::reset_on_close;

pub(crate) struct Visitor {
    id: u32,
    rng: fastrand::Rng,
    address: SocketAddr,
    database: String,
    ledger: Arc<Ledger>,
    /// Counts up: no two values are alike.
    count: u64,
    visit: Visit,
}

/// What belongs to a connection.
#[derive(Default)]
struct Visit {
    /// What the statements that it has prepared answer, by their names; names are the same for all.
    statements: BTreeMap<String, String>,
    name: String,
    zone: String,
}

/// Why a step did not end well.
enum Trouble {
    /// The connection ended.
    Broken(String),
    Wrong(String),
}

type Step<T = ()> = Result<T, Trouble>;

impl Visitor {
    pub(crate) fn new(id: u32, seed: u64, address: SocketAddr, database: &str, ledger: Arc<Ledger>) -> Self {
        let rng = fastrand::Rng::with_seed(seed ^ (u64::from(id) << 32));
        Self { id, rng, address, database: database.into(), ledger, count: 0, visit: Visit::default() }
    }

    pub(crate) async fn run(mut self) {
        let (mut open, mut fine) = (None, 0);
        while !self.ledger.is_over() {
            let cuts = self.ledger.cuts();
            let mut client = match open.take() {
                Some(client) => client,
                None => match self.connect().await {
                    Ok(client) => {
                        fine = cuts;
                        client
                    }
                    Err(_) if self.is_excused(cuts).await => continue,
                    Err(error) => return self.ledger.fail(format!("client {}: cannot log in: {error}", self.id)),
                },
            };
            if self.rng.u32(..1000) < 25 {
                self.die(client).await;
                continue;
            }
            match self.step(&mut client).await {
                Ok(()) => {
                    self.ledger.step();
                    (open, fine) = (Some(client), cuts);
                }
                Err(Trouble::Broken(_)) if self.is_excused(fine).await => self.ledger.count_break(),
                Err(Trouble::Broken(heard)) => {
                    return self.ledger.fail(format!("client {}: closed for no reason after {heard:?}", self.id));
                }
                Err(Trouble::Wrong(why)) => return self.ledger.fail(format!("client {}: {why}", self.id)),
            }
        }
        if let Some(mut client) = open {
            let _ = client.converse(&[crate::pg_modes::message::terminate()], 0).await;
        }
    }

    /// A cut may be noticed a little before it is counted.
    async fn is_excused(&self, since: u64) -> bool {
        lab::until("a cut that explains it", Duration::from_secs(2), || self.ledger.cuts() > since).await.is_ok()
    }

    async fn connect(&mut self) -> Result<Client, String> {
        self.visit = Visit { name: format!("client {}", self.id), zone: self.zone(), ..Visit::default() };
        let (name, zone) = (&self.visit.name, &self.visit.zone);
        let parameters = [("user", USER), ("database", &self.database), ("application_name", name), ("timezone", zone)];
        Client::log_in(self.address, &parameters, PASSWORD).await
    }

    fn zone(&mut self) -> String {
        ["UTC", "Asia/Tokyo", "Europe/Berlin"][self.rng.usize(..3)].to_owned()
    }

    /// Unlike any other's.
    fn value(&mut self) -> String {
        self.count += 1;
        format!("value {} of client {}", self.count, self.id)
    }

    async fn step(&mut self, client: &mut Client) -> Step {
        match self.rng.u8(..16) {
            0 | 1 => self.simple(client).await,
            2..5 => self.batches(client).await,
            5..8 => self.prepared(client).await,
            8..11 => self.writes(client).await,
            11 => self.copies(client).await,
            12 => self.looks_around(client).await,
            13 => self.changes_settings(client).await,
            14 => self.locks(client).await,
            _ => self.is_cancelled(client).await,
        }
    }

    async fn expect(&self, client: &mut Client, messages: &[Vec<u8>], answers: usize, wanted: &str) -> Step {
        let heard = client.converse(messages, answers).await.map_err(Trouble::Broken)?;
        if heard == wanted {
            return Ok(());
        }
        let sent = messages.concat();
        Err(Trouble::Wrong(format!("heard {heard:?}\nwanted {wanted:?}\nafter {}", sent[..sent.len().min(3000)].escape_ascii())))
    }

    async fn simple(&mut self, client: &mut Client) -> Step {
        let (value, padding) = (self.value(), self.rng.usize(..20_000));
        let sql = format!("select '{value}' as v, length(repeat('x', {padding}))");
        self.expect(client, &[query(&sql)], 1, &format!("T(v,length) D({value},{padding}) C(SELECT 1) Z(I)")).await
    }

    /// Some batches at once, of some statements each; errors skip the rest of a batch.
    async fn batches(&mut self, client: &mut Client) -> Step {
        let (mut messages, mut wanted) = (Vec::new(), Vec::new());
        let batches = self.rng.usize(1..6);
        for _ in 0..batches {
            let mut failed = false;
            for _ in 0..self.rng.usize(0..5) {
                let value = self.value();
                if self.rng.u8(..10) == 0 {
                    messages.push(bind("", "a name that nobody has", &[]));
                    if !failed {
                        wanted.push("E(26000: prepared statement \"a name that nobody has\" does not exist)".to_owned());
                    }
                    failed = true;
                } else {
                    messages.push(unnamed("select $1::text", &[Some(&value)]));
                    if !failed {
                        wanted.push(format!("1 2 D({value}) C(SELECT 1)"));
                    }
                }
            }
            messages.push(sync());
            wanted.push("Z(I)".to_owned());
        }
        self.expect(client, &messages, batches, &wanted.join(" ")).await
    }

    /// The names are the same for all, what they mean is not.
    async fn prepared(&mut self, client: &mut Client) -> Step {
        let (mut messages, mut wanted, mut answers) = (Vec::new(), Vec::new(), 0);
        for _ in 0..self.rng.usize(1..8) {
            let name = format!("lrupsc_1_{}", self.rng.u8(..6));
            answers += 1;
            let known = self.visit.statements.get(&name).cloned();
            match (known, self.rng.u8(..8)) {
                (None, 0) => {
                    messages.extend([run(&name, &[Some("x")]), sync()]);
                    wanted.push(format!("E(26000: prepared statement \"{name}\" does not exist) Z(I)"));
                }
                (None, _) => {
                    // Few texts, so that they are shared, or one of its own.
                    let text = if self.rng.bool() { format!("shared {}", self.rng.u8(..20)) } else { self.value() };
                    messages.extend([parse(&name, &format!("select '{text}', $1::text"), &[]), sync()]);
                    wanted.push("1 Z(I)".into());
                    self.visit.statements.insert(name, text);
                }
                (Some(_), 0) => {
                    messages.extend([close(b'S', &name), sync()]);
                    wanted.push("3 Z(I)".into());
                    self.visit.statements.remove(&name);
                }
                (Some(_), 1) => {
                    messages.push(query(&format!("deallocate {name}")));
                    wanted.push("C(DEALLOCATE) Z(I)".into());
                    self.visit.statements.remove(&name);
                }
                (Some(_), 2) => {
                    messages.extend([parse(&name, "select 1", &[]), sync()]);
                    wanted.push(format!("E(42P05: prepared statement \"{name}\" already exists) Z(I)"));
                }
                (Some(text), _) => {
                    let value = self.value();
                    messages.extend([run(&name, &[Some(&value)]), sync()]);
                    wanted.push(format!("2 D({text},{value}) C(SELECT 1) Z(I)"));
                }
            }
        }
        self.expect(client, &messages, answers, &wanted.join(" ")).await
    }

    /// Rows in a transaction that is committed or not, in one go or step by step.
    async fn writes(&mut self, client: &mut Client) -> Step {
        let tokens: Vec<_> = (0..self.rng.usize(1..4)).map(|_| self.ledger.token()).collect();
        self.ledger.record(&tokens, Fate::Unknown);
        let insert = |token: &u64| format!("insert into ledger values ({token}, {})", self.id);
        let (kind, commits) = (self.rng.u8(..4), self.rng.u8(..4) > 0);
        let (last, said) = if commits { ("commit", "C(COMMIT)") } else { ("rollback", "C(ROLLBACK)") };
        let inserted = "C(INSERT 0 1)";
        let done = match kind {
            // Nobody asks before the end.
            0 => {
                let batch: Vec<_> = tokens.iter().map(|token| unnamed(&insert(token), &[])).chain([sync()]).collect();
                let wanted = vec![format!("1 2 {inserted}"); tokens.len()].join(" ") + " Z(I)";
                self.expect(client, &batch, 1, &wanted).await?;
                true
            }
            1 => {
                let all: Vec<_> = tokens.iter().map(&insert).collect();
                let sql = format!("begin; {}; {last}", all.join("; "));
                let wanted = format!("C(BEGIN) {} {said} Z(I)", vec![inserted; tokens.len()].join(" "));
                self.expect(client, &[query(&sql)], 1, &wanted).await?;
                commits
            }
            _ => {
                self.expect(client, &[query("begin")], 1, "C(BEGIN) Z(T)").await?;
                for token in &tokens {
                    self.expect(client, &[query(&insert(token))], 1, &format!("{inserted} Z(T)")).await?;
                    let ids = tokens.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
                    let mine = format!("select count(*) from ledger where token in ({ids}) and client <> {}", self.id);
                    self.expect(client, &[unnamed(&mine, &[]), sync()], 1, "1 2 D(0) C(SELECT 1) Z(T)").await?;
                }
                self.expect(client, &[query(last)], 1, &format!("{said} Z(I)")).await?;
                commits
            }
        };
        self.ledger.record(&tokens, if done { Fate::Committed } else { Fate::Undone });
        Ok(())
    }

    async fn copies(&mut self, client: &mut Client) -> Step {
        let tokens: Vec<_> = (0..self.rng.usize(1..50)).map(|_| self.ledger.token()).collect();
        self.ledger.record(&tokens, Fate::Unknown);
        let rows: String = tokens.iter().map(|token| format!("{token}\t{}\tcopied\n", self.id)).collect();
        let gives_up = self.rng.u8(..4) == 0;
        let rows = if gives_up { rows + "x\ty\tz\n" } else { rows };
        let copy = "copy ledger from stdin";
        // With Sync behind the request, as the clients of Rust, or as one query.
        let (messages, prefix) = if self.rng.bool() {
            (vec![unnamed(copy, &[]), sync(), copy_data(rows.as_bytes()), copy_done(), sync()], "1 2 ")
        } else {
            (vec![query(copy), copy_data(rows.as_bytes()), copy_done()], "")
        };
        let (said, fate) = match gives_up {
            true => ("E(22P02: invalid input syntax for type bigint: \"x\")".to_owned(), Fate::Undone),
            false => (format!("C(COPY {})", tokens.len()), Fate::Committed),
        };
        self.expect(client, &messages, 1, &format!("{prefix}G {said} Z(I)")).await?;
        self.ledger.record(&tokens, fate);
        let value = self.value();
        let out = format!("copy (select '{value}' from generate_series(1, 3)) to stdout");
        self.expect(client, &[query(&out)], 1, &format!("H d({value}\\n) d({value}\\n) d({value}\\n) c C(COPY 3) Z(I)")).await
    }

    /// From inside: its own settings, and nothing of anybody.
    async fn looks_around(&mut self, client: &mut Client) -> Step {
        let sql = "select current_setting('application_name'), current_setting('timezone'), current_setting('work_mem'), current_user, \
                   (select coalesce(string_agg(objid::text, ' '), 'none') from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()), \
                   (select count(*) from pg_class where relnamespace = pg_my_temp_schema()), \
                   (select count(*) from pg_prepared_statements where from_sql), (select count(*) from pg_cursors where is_holdable), \
                   (select count(*) from pg_listening_channels())";
        let (name, zone) = (&self.visit.name, &self.visit.zone);
        let wanted = format!("1 2 D({name},{zone},4MB,app,none,0,0,0,0) C(SELECT 1) Z(I)");
        self.expect(client, &[unnamed(sql, &[]), sync()], 1, &wanted).await
    }

    async fn changes_settings(&mut self, client: &mut Client) -> Step {
        let (name, zone) = (self.value(), self.zone());
        let name_said = if name == self.visit.name { String::new() } else { format!(" S(application_name={name})") };
        let zone_said = if zone == self.visit.zone { String::new() } else { format!(" S(TimeZone={zone})") };
        let messages = [query(&format!("set application_name = '{name}'")), query(&format!("set timezone to '{zone}'"))];
        self.expect(client, &messages, 2, &format!("C(SET){name_said} Z(I) C(SET){zone_said} Z(I)")).await?;
        (self.visit.name, self.visit.zone) = (name, zone);
        self.looks_around(client).await
    }

    /// A lock of the session, a temporary table: there for several transactions, and gone again.
    async fn locks(&mut self, client: &mut Client) -> Step {
        let id = u64::from(self.id) * 1000;
        self.expect(client, &[query(&format!("select pg_try_advisory_lock({id})"))], 1, "T(pg_try_advisory_lock) D(t) C(SELECT 1) Z(I)")
            .await?;
        let value = self.value();
        let table = format!("create temp table mine as select '{value}' as v");
        self.expect(client, &[query(&table)], 1, "C(SELECT 1) Z(I)").await?;
        self.expect(client, &[query("select v from mine")], 1, &format!("T(v) D({value}) C(SELECT 1) Z(I)")).await?;
        let mine = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
        self.expect(client, &[query(mine)], 1, "T(count) D(1) C(SELECT 1) Z(I)").await?;
        self.expect(client, &[query("drop table mine")], 1, "C(DROP TABLE) Z(I)").await?;
        self.expect(client, &[query(&format!("select pg_advisory_unlock({id})"))], 1, "T(pg_advisory_unlock) D(t) C(SELECT 1) Z(I)").await
    }

    /// By itself, at about the time when it is over anyway.
    async fn is_cancelled(&mut self, client: &mut Client) -> Step {
        let (value, key, address) = (self.value(), client.key.clone(), self.address);
        let pause = Duration::from_micros(self.rng.u64(..12_000));
        let canceller = tokio::spawn(async move {
            sleep(pause).await;
            // A storm may meet this one too.
            let Ok(mut stream) = TcpStream::connect(address).await else { return };
            let _ = stream.write_all(&cancel(key.0, &key.1)).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let sql = format!("select pg_sleep(0.006), '{value}'");
        let cuts = self.ledger.cuts();
        let heard = client.converse(&[query(&sql)], 1).await;
        canceller.await.map_err(|error| Trouble::Wrong(error.to_string()))?;
        let heard = heard.map_err(Trouble::Broken)?;
        if heard.ends_with("E(57014: canceling statement due to user request) Z(I)") {
            self.ledger.count_cancelled();
        } else if heard != format!("T(pg_sleep,?column?) D(,{value}) C(SELECT 1) Z(I)") {
            return Err(Trouble::Wrong(format!("{sql}: {heard}")));
        }
        if !self.ledger.is_calm_since(cuts) {
            // The end of the canceller's connection may have been a cut: then the request is still on its way, and meets this session whenever it comes.
            return Err(Trouble::Broken("a cancel request that may be on its way".to_owned()));
        }
        // The server sends the signal twice; a late one may meet this, of the same client, and nothing after it.
        let after = client.converse(&[query("select 1")], 1).await.map_err(Trouble::Broken)?;
        match after.as_str() {
            "T(?column?) D(1) C(SELECT 1) Z(I)" => Ok(()),
            late if late.contains("E(57014: ") => Ok(()),
            _ => Err(Trouble::Wrong(format!("after a cancel: {after}"))),
        }
    }

    /// In the middle of something.
    async fn die(&mut self, mut client: Client) {
        let token = self.ledger.token();
        self.ledger.record(&[token], Fate::Unknown);
        let insert = format!("insert into ledger values ({token}, {})", self.id);
        let never = |ledger: &Ledger| ledger.record(&[token], Fate::Undone);
        let messages = match self.rng.u8(..7) {
            0 => vec![query(&insert)],
            1 => {
                never(&self.ledger);
                vec![query("begin"), query(&insert)]
            }
            2 => {
                never(&self.ledger);
                vec![unnamed(&insert, &[]), flush()]
            }
            3 => {
                never(&self.ledger);
                vec![query("copy ledger from stdin"), copy_data(format!("{token}\t1\tx\n").as_bytes())]
            }
            4 => {
                vec![parse("lrupsc_1_0", "select generate_series(1, 10000)", &[]), bind("p", "lrupsc_1_0", &[]), execute("p", 100), flush()]
            }
            5 => {
                vec![query(
                    "set timezone = 'America/Lima'; set work_mem = '9MB'; select pg_try_advisory_lock(1); create temp table x (i int)",
                )]
            }
            _ => vec![query("listen news; prepare q as select 1; set role other; begin; declare c cursor with hold for select 1; commit")],
        };
        let bytes = messages.concat();
        let cut = if self.rng.u8(..3) == 0 { self.rng.usize(..bytes.len()) } else { bytes.len() };
        let _ = client.stream().write_all(&bytes[..cut]).await;
        if self.rng.bool() {
            sleep(Duration::from_millis(self.rng.u64(..5))).await;
        }
        if self.rng.bool() {
            reset_on_close(client.stream());
        }
    }
}
