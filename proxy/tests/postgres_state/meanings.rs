//! The same text means different things to clients with different settings, also when it was prepared.

use crate::pg_modes::message::{parse, query, run, sync};
use crate::pg_modes::{Bed, Client, Mode, in_every_mode};

in_every_mode!(
    the_same_text_in_other_schemas,
    the_same_text_in_other_time_zones,
    what_was_prepared_before_a_setting_changed,
    what_was_prepared_under_another_role,
    harbor_reads_its_times_as_it_wrote_them
);

async fn schemas(bed: &Bed) {
    let mut maker = bed.past(&[]).await;
    for schema in ["a", "b", "public"] {
        maker.query(&format!("create schema if not exists {schema}; create table {schema}.t as select '{schema}'::text as v")).await;
    }
    maker.query("alter table b.t add w int default 2").await;
}

async fn the_same_text_in_other_schemas(mode: Mode) {
    let bed = Bed::with(mode, 3, &[]).await;
    schemas(&bed).await;
    let mut clients = Vec::new();
    for (schema, row) in [("a", "D(a)"), ("b", "D(b,2)"), ("public", "D(public)")] {
        // At startup, and by SET.
        if schema == "b" {
            let mut client = bed.client().await;
            client.query("set search_path = b").await;
            clients.push((client, row));
        } else {
            clients.push((bed.client_with(&[("search_path", schema)]).await, row));
        }
    }
    for (client, row) in &mut clients {
        assert_eq!(client.ask(&[parse("s", "select * from t", &[]), run("s", &[]), sync()]).await, format!("1 2 {row} C(SELECT 1) Z(I)"));
    }
    for _ in 0..5 {
        for (client, row) in &mut clients {
            assert_eq!(client.ask(&[run("s", &[]), sync()]).await, format!("2 {row} C(SELECT 1) Z(I)"));
        }
    }
}

async fn the_same_text_in_other_time_zones(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let sql = "select timestamptz '2024-01-01 00:00' at time zone 'UTC', '2024-01-01 00:00'::timestamptz, extract(epoch from timestamptz '2024-01-01')";
    let mut clients = Vec::new();
    for zone in ["UTC", "Asia/Tokyo", "America/New_York"] {
        if mode == Mode::Session && clients.len() == 2 {
            break;
        }
        let mut past = bed.past(&[("timezone", zone)]).await;
        let wanted = past.ask(&[parse("s", sql, &[]), run("s", &[]), sync()]).await.replacen("1 ", "", 1);
        let mut client = bed.client_with(&[("timezone", zone)]).await;
        client.ask(&[parse("s", sql, &[]), sync()]).await;
        clients.push((client, wanted));
    }
    for _ in 0..5 {
        for (client, wanted) in &mut clients {
            assert_eq!(client.ask(&[run("s", &[]), sync()]).await, *wanted);
        }
    }
}

/// Constants were read when it was parsed, the rest is read when it runs: as on a connection of one's own.
async fn what_was_prepared_before_a_setting_changed(mode: Mode) {
    let scenario = async |client: &mut Client| {
        let mut heard = Vec::new();
        let texts = [
            ("zone", "select timestamptz '2024-01-01 00:00', timestamptz '2024-01-01 00:00' at time zone 'UTC'"),
            ("style", "select date '01/02/2024', interval '1 day 2 hours'"),
            ("path", "select v from t"),
        ];
        for (name, sql) in texts {
            heard.push(client.ask(&[parse(name, sql, &[]), run(name, &[]), sync()]).await);
        }
        for change in [
            "set timezone = 'Asia/Tokyo'",
            "set datestyle = 'ISO, DMY'",
            "set intervalstyle = iso_8601",
            "set search_path = a",
            "reset all",
        ] {
            client.query(change).await;
            for (name, sql) in texts {
                heard.push(client.ask(&[run(name, &[]), sync()]).await);
                // A new one means what it means now.
                heard.push(client.ask(&[parse("", sql, &[]), run("", &[]), sync()]).await);
            }
        }
        heard
    };
    let bed = Bed::with(mode, 2, &[]).await;
    schemas(&bed).await;
    let wanted = scenario(&mut bed.past(&[("timezone", "UTC")]).await).await;
    let mut beside = bed.client_with(&[("timezone", "Europe/Berlin")]).await;
    for round in 0..2 {
        let mut client = bed.client_with(&[("timezone", "UTC")]).await;
        assert_eq!(scenario(&mut client).await, wanted, "round {round}");
        client.leave().await;
        if mode != Mode::Session {
            scenario(&mut beside).await;
        }
    }
}

async fn what_was_prepared_under_another_role(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    let mut maker = bed.past(&[]).await;
    maker
        .query("create table secret as select 1 as i; create view whoami as select current_user as me; grant select on whoami to other")
        .await;
    let (mut client, mut beside) = (bed.client().await, bed.client().await);
    for client in [&mut client, &mut beside] {
        client.ask(&[parse("s", "select i from secret", &[]), parse("w", "select me from whoami", &[]), sync()]).await;
    }
    client.query("set role other").await;
    for _ in 0..3 {
        assert_eq!(client.ask(&[run("s", &[]), sync()]).await, "2 E(42501: permission denied for table secret) Z(I)".replacen("2 ", "", 1));
        assert_eq!(client.ask(&[run("w", &[]), sync()]).await, "2 D(other) C(SELECT 1) Z(I)");
        assert_eq!(beside.ask(&[run("s", &[]), run("w", &[]), sync()]).await, "2 D(1) C(SELECT 1) 2 D(app) C(SELECT 1) Z(I)");
    }
    client.query("reset role").await;
    assert_eq!(client.ask(&[run("s", &[]), run("w", &[]), sync()]).await, "2 D(1) C(SELECT 1) 2 D(app) C(SELECT 1) Z(I)");
}

/// Harbor says `timezone=UTC`, its migrator says nothing; both use the same pool.
async fn harbor_reads_its_times_as_it_wrote_them(mode: Mode) {
    let bed = Bed::with(mode, 2, &[]).await;
    bed.sql(&format!("alter database {} set timezone = 'Asia/Tokyo'", bed.database)).await;
    let (mut harbor, mut migrator) = (bed.client_with(&[("timezone", "UTC")]).await, bed.client().await);
    assert_eq!(
        migrator.query("create table times (at timestamp default now(), zone text default current_setting('timezone'))").await,
        "C(CREATE TABLE) Z(I)"
    );
    for _ in 0..10 {
        assert_eq!(harbor.value("SELECT current_setting('TIMEZONE')").await, "UTC");
        assert_eq!(migrator.value("SELECT current_setting('TIMEZONE')").await, "Asia/Tokyo");
        harbor.send(&[query("begin"), query("insert into times default values"), query("commit")]).await;
        harbor.ready_times(3).await;
    }
    assert_eq!(migrator.value("select string_agg(distinct zone, ',') from times").await, "UTC");
    assert_eq!(harbor.parameters["TimeZone"], "UTC");
    assert_eq!(migrator.parameters["TimeZone"], "Asia/Tokyo");
}
