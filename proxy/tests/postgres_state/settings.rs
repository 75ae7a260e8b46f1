//! Settings follow their client, and only it.

use crate::pg_modes::message::{parse, query, run, sync, unnamed};
use crate::pg_modes::{Bed, Client, Mode, in_every_mode};

in_every_mode!(
    a_setting_stays_with_its_client,
    a_setting_is_gone_with_its_client,
    a_setting_in_a_transaction_that_fails,
    a_local_setting_ends_with_its_transaction,
    changes_are_reported_once_and_to_who_made_them,
    values_of_any_kind,
    settings_that_are_wrong;
    transaction: settings_hold_nobody_up,
    clients_with_settings_of_their_own_share_one_connection
);

/// A setting, a value, how the server shows it, and whether it is followed without a pin.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("timezone", "'Asia/Tokyo'", "Asia/Tokyo"),
    ("TimeZone", "'UTC'", "UTC"),
    ("application_name", "'it''s \"me\"'", "it's \"me\""),
    ("datestyle", "german", "German, DMY"),
    ("intervalstyle", "iso_8601", "iso_8601"),
    ("client_encoding", "latin1", "LATIN1"),
    ("standard_conforming_strings", "off", "off"),
    ("default_transaction_read_only", "on", "on"),
    ("work_mem", "'7MB'", "7MB"),
    ("statement_timeout", "12345", "12345ms"),
    ("lock_timeout", "'3s'", "3s"),
    ("extra_float_digits", "0", "0"),
    ("bytea_output", "escape", "escape"),
    ("default_transaction_isolation", "serializable", "serializable"),
    ("search_path", "pg_catalog", "pg_catalog"),
    ("my.setting", "'anything'", "anything"),
];

async fn shown(client: &mut Client, name: &str) -> String {
    client.value(&format!("select coalesce(current_setting('{name}', true), '')")).await
}

async fn defaults(bed: &Bed) -> Vec<String> {
    let (mut fresh, mut defaults) = (bed.past(&[]).await, Vec::new());
    for (name, ..) in SETTINGS {
        defaults.push(shown(&mut fresh, name).await);
    }
    defaults
}

/// The ways in which a setting may be said.
fn ways(name: &str, value: &str) -> Vec<Vec<Vec<u8>>> {
    let plain = if value.starts_with('\'') { value.to_owned() } else { format!("'{value}'") };
    vec![
        vec![query(&format!("set {name} = {value}"))],
        vec![query(&format!("SET SESSION {name} TO {value};"))],
        vec![query(&format!("select 1; set {name} to {value}; select 2"))],
        vec![query(&format!("select set_config('{name}', {plain}, false)"))],
        vec![unnamed(&format!("set {name} to {value}"), &[]), sync()],
        vec![parse("setter", &format!("set {name} to {value}"), &[]), run("setter", &[]), unnamed("deallocate setter", &[]), sync()],
        vec![query(&format!("begin; set {name} = {value}; commit"))],
        vec![query(&format!("/* one */ set -- two\n {name} = {value}"))],
        vec![query(&format!("do $$ begin set {name} = {value}; end $$"))],
    ]
}

async fn a_setting_stays_with_its_client(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let defaults = defaults(&bed).await;
    let mut beside = bed.client().await;
    for ((name, value, wanted), default) in SETTINGS.iter().zip(&defaults) {
        for way in ways(name, value) {
            let mut client = bed.client().await;
            let heard = client.ask(&way).await;
            assert!(!heard.contains("E("), "{heard}");
            for _ in 0..2 {
                assert_eq!(shown(&mut beside, name).await, *default, "{name}, beside one after {}", way.concat().escape_ascii());
                assert_eq!(shown(&mut client, name).await, *wanted, "{name}, after {}", way.concat().escape_ascii());
            }
            assert_eq!(client.query(&format!("reset {name}")).await.split(' ').next_back(), Some("Z(I)"));
            assert_eq!(shown(&mut client, name).await, *default, "{name}, reset after {}", way.concat().escape_ascii());
            client.leave().await;
        }
    }
}

async fn a_setting_is_gone_with_its_client(mode: Mode) {
    let bed = Bed::one(mode).await;
    let defaults = defaults(&bed).await;
    for ((name, value, wanted), default) in SETTINGS.iter().zip(&defaults) {
        for way in ways(name, value) {
            let mut client = bed.client().await;
            client.ask(&way).await;
            assert_eq!(shown(&mut client, name).await, *wanted);
            drop(client);
            assert_eq!(shown(&mut bed.client().await, name).await, *default, "{name}, left by {}", way.concat().escape_ascii());
        }
    }
}

async fn a_setting_in_a_transaction_that_fails(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let (defaults, mut beside) = (defaults(&bed).await, bed.client().await);
    let mut client = bed.client().await;
    for ((name, value, wanted), default) in SETTINGS.iter().zip(&defaults) {
        client.query(&format!("begin; set {name} = {value}")).await;
        assert_eq!(shown(&mut client, name).await, *wanted);
        client.query("rollback").await;
        assert_eq!(shown(&mut client, name).await, *default, "{name}");
        assert_eq!(shown(&mut beside, name).await, *default, "{name}");
        client.query(&format!("set {name} = {value}; select 1/0")).await;
        assert_eq!(shown(&mut client, name).await, *default, "{name}: all of it is one transaction");
        // Set before, and set again in vain.
        client.query(&format!("set {name} = {value}")).await;
        client.send(&[query("begin"), query(&format!("reset {name}")), query("savepoint s"), query("selec"), query("rollback")]).await;
        client.ready_times(5).await;
        assert_eq!(shown(&mut client, name).await, *wanted, "{name}");
        client.query(&format!("reset {name}")).await;
    }
}

async fn a_local_setting_ends_with_its_transaction(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut beside = if mode == Mode::Transaction { Some(bed.client().await) } else { None };
    let mut client = bed.client().await;
    for sql in [
        "set local work_mem = '7MB'",
        "select set_config('work_mem', '7MB', true)",
        "set local work_mem to '7MB'; set local timezone to 'Asia/Tokyo'",
    ] {
        client.query("begin").await;
        client.query(sql).await;
        assert_eq!(client.value("show work_mem").await, "7MB", "{sql}");
        client.query("commit").await;
        if let Some(beside) = &mut beside {
            assert_eq!(beside.value("show work_mem").await, "4MB", "{sql}");
        }
        assert_eq!(client.value("show work_mem").await, "4MB", "{sql}");
    }
    client.query("begin transaction isolation level serializable read only").await;
    assert_eq!(client.value("show transaction_isolation").await, "serializable");
    client.query("commit").await;
    assert_eq!(client.value("show transaction_isolation").await, "read committed");
}

async fn changes_are_reported_once_and_to_who_made_them(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let (mut client, mut beside) = (bed.client().await, bed.client().await);
    for _ in 0..3 {
        assert_eq!(client.query("set timezone = 'Asia/Tokyo'").await, "C(SET) S(TimeZone=Asia/Tokyo) Z(I)");
        assert_eq!(beside.query("select 1").await, "T(?column?) D(1) C(SELECT 1) Z(I)");
        assert_eq!(client.query("select 1").await, "T(?column?) D(1) C(SELECT 1) Z(I)");
        assert_eq!(client.query("set timezone = 'Asia/Tokyo'").await, "C(SET) Z(I)");
        assert_eq!(client.query("begin; set local application_name = 'x'").await, "C(BEGIN) C(SET) S(application_name=x) Z(T)");
        assert_eq!(client.query("commit").await, "C(COMMIT) S(application_name=) Z(I)");
        let default = client.query("reset timezone").await;
        assert!(default.starts_with("C(RESET) S(TimeZone=") && default.ends_with(") Z(I)"), "{default}");
    }
    let batch = [unnamed("set application_name to 'y'", &[]), unnamed("show application_name", &[]), sync()];
    assert_eq!(client.ask(&batch).await, "1 2 C(SET) 1 2 D(y) C(SHOW) S(application_name=y) Z(I)");
    assert_eq!(client.query("select 1").await, "T(?column?) D(1) C(SELECT 1) Z(I)");
    assert_eq!(beside.query("select 1").await, "T(?column?) D(1) C(SELECT 1) Z(I)");
}

/// Nothing of a value ever becomes SQL.
async fn values_of_any_kind(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let mut beside = bed.client().await;
    let long = "x".repeat(63);
    for value in ["", " ", "'", "''", "\\", "\\'", "a\\", "'; drop table x; --", "$1", "$$", "a,b", "\"q\"", "E'\\n'", "ü", "%s", &long] {
        let mut client = bed.client_with(&[("application_name", value)]).await;
        // What is not ASCII comes out otherwise, at startup and later not even alike.
        let wanted = bed.past(&[("application_name", value)]).await.value("show application_name").await;
        for _ in 0..2 {
            assert_eq!(beside.value("show application_name").await, "");
            assert_eq!(client.value("show application_name").await, wanted, "{value:?} at startup");
        }
        client.leave().await;
        let mut client = bed.client().await;
        let set = format!("set application_name = '{}'", value.replace('\'', "''"));
        let mut past = bed.past(&[]).await;
        past.query(&set).await;
        let wanted = past.value("show application_name").await;
        client.query(&set).await;
        for _ in 0..2 {
            assert_eq!(beside.value("show application_name").await, "");
            assert_eq!(client.value("show application_name").await, wanted, "{value:?} by SET");
        }
        client.leave().await;
        let mut client = bed.client().await;
        client.ask(&[unnamed("select set_config('my.value', $1, false)", &[Some(value)]), sync()]).await;
        for _ in 0..2 {
            beside.value("select 1").await;
            assert_eq!(client.value("show my.value").await, value, "{value:?} by set_config");
        }
        client.leave().await;
    }
}

async fn settings_that_are_wrong(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    for (sql, wanted) in [
        ("set nonsense = 1", "E(42704: unrecognized configuration parameter \"nonsense\") Z(I)"),
        ("set timezone = 'Nowhere'", "E(22023: invalid value for parameter \"TimeZone\": \"Nowhere\") Z(I)"),
        ("set work_mem = 'much'", "E(22023: invalid value for parameter \"work_mem\": \"much\") Z(I)"),
        ("set port = 1", "E(55P02: parameter \"port\" cannot be changed without restarting the server) Z(I)"),
        ("set log_statement = 'all'", "E(42501: permission denied to set parameter \"log_statement\") Z(I)"),
        ("set", "E(42601: syntax error at end of input) Z(I)"),
    ] {
        assert_eq!(client.query(sql).await, wanted, "{sql}");
        let zone = client.value("show timezone").await;
        assert_eq!(zone, bed.past(&[]).await.value("show timezone").await, "after {sql}");
    }
}

/// The common ones do not pin: with one connection for all, others go on.
async fn settings_hold_nobody_up(mode: Mode) {
    let bed = Bed::one(mode).await;
    let defaults = defaults(&bed).await;
    let mut beside = bed.client().await;
    for ((name, value, wanted), default) in SETTINGS.iter().zip(&defaults) {
        let mut client = bed.client().await;
        client.query(&format!("set {name} = {value}")).await;
        assert_eq!(shown(&mut beside, name).await, *default, "{name}");
        assert_eq!(shown(&mut client, name).await, *wanted, "{name}");
        client.query(&format!("set {name} to default")).await;
        assert_eq!(shown(&mut client, name).await, *default, "{name}");
    }
}

async fn clients_with_settings_of_their_own_share_one_connection(mode: Mode) {
    let bed = Bed::one(mode).await;
    let zones = ["UTC", "Asia/Tokyo", "America/New_York", "Europe/Berlin"];
    let mut clients = Vec::new();
    for (i, zone) in zones.iter().enumerate() {
        let name = format!("client {i}");
        let timeout = (i * 1000).to_string();
        clients.push(bed.client_with(&[("timezone", zone), ("application_name", &name), ("statement_timeout", &timeout)]).await);
    }
    let all =
        "select concat_ws('|', current_setting('timezone'), current_setting('application_name'), current_setting('statement_timeout'))";
    for round in 0..20 {
        // All at once: the settings come with the query, in the same write.
        for client in &mut clients {
            client.send(&[query(all)]).await;
        }
        for (i, client) in clients.iter_mut().enumerate() {
            let timeout = if i == 0 { "0".to_owned() } else { format!("{i}s") };
            let name = if round > 10 { "renamed".to_owned() + &i.to_string() } else { format!("client {i}") };
            assert_eq!(client.ready().await, format!("T(concat_ws) D({}|{name}|{timeout}) C(SELECT 1) Z(I)", zones[i]), "round {round}");
        }
        if round == 10 {
            for (i, client) in clients.iter_mut().enumerate() {
                assert_eq!(
                    client.query(&format!("set application_name = renamed{i}")).await,
                    format!("C(SET) S(application_name=renamed{i}) Z(I)")
                );
            }
        }
    }
}
