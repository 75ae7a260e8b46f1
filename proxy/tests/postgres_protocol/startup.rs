//! The first messages: what a client asks for when it begins, and what it is told about the server.

use crate::pg_modes::message::{bind, execute, message, parse, query, startup, sync, unnamed};
use crate::pg_modes::{Bed, Client, Mode, PASSWORD, USER, in_every_mode};
use tokio::io::AsyncReadExt;

in_every_mode!(
    what_the_server_reports,
    settings_at_startup,
    a_reset_is_to_settings_at_startup_whatever_is_sent_behind_it,
    settings_that_do_not_exist,
    newer_protocols_are_negotiated,
    a_database_that_does_not_exist,
    requests_for_encryption_are_declined,
    the_first_query_may_come_with_a_goodbye
);

async fn what_the_server_reports(mode: Mode) {
    let bed = Bed::one(mode).await;
    for parameters in [
        &[][..],
        &[("application_name", "me")],
        &[("timezone", "Asia/Tokyo"), ("DateStyle", "german"), ("client_encoding", "latin1"), ("INTERVALSTYLE", "iso_8601")],
        &[("options", "-c TimeZone=America/New_York -c application_name=it\\ is --default_transaction_read_only=on")],
    ] {
        let (direct, client) = (bed.past(parameters).await, bed.client_with(parameters).await);
        assert_eq!(client.parameters, direct.parameters, "{parameters:?}");
        assert!(client.key.0 != 0 && client.key.1.len() >= 4, "{:?}", client.key);
        client.leave().await;
    }
}

async fn settings_at_startup(mode: Mode) {
    let bed = Bed::one(mode).await;
    let asked: &[(&str, &str)] = &[
        ("timezone", "Asia/Tokyo"),
        ("statement_timeout", "12345"),
        ("search_path", "a, \"B c\", public"),
        ("extra_float_digits", "3"),
        ("options", "-c work_mem=9MB -c lock_timeout=2s --geqo=off -c custom.setting=it\\ is\\\\"),
        ("application_name", "it's \"me\""),
    ];
    let shown = async |client: &mut Client| {
        let mut shown = Vec::new();
        for name in
            ["timezone", "statement_timeout", "search_path", "extra_float_digits", "work_mem", "lock_timeout", "geqo", "application_name"]
        {
            shown.push(client.value(&format!("show {name}")).await);
        }
        shown.push(client.value("select current_setting('custom.setting', true)").await);
        shown
    };
    let (mut past, mut plain) = (bed.past(asked).await, bed.past(&[]).await);
    let (wanted, defaults) = (shown(&mut past).await, shown(&mut plain).await);
    let mut other = if mode == Mode::Session { None } else { Some(bed.client().await) };
    let mut client = bed.client_with(asked).await;
    for _ in 0..5 {
        assert_eq!(shown(&mut client).await, wanted);
        if let Some(other) = &mut other {
            assert_eq!(shown(other).await[..8], defaults[..8]);
        }
    }
    // They are what RESET goes back to.
    for sql in ["set work_mem = '1MB'", "reset work_mem", "set timezone = 'UTC'", "reset timezone"] {
        client.query(sql).await;
    }
    assert_eq!(shown(&mut client).await, wanted);
    client.leave().await;
    assert_eq!(shown(&mut bed.client().await).await[..8], defaults[..8]);
}

async fn a_reset_is_to_settings_at_startup_whatever_is_sent_behind_it(mode: Mode) {
    let bed = Bed::one(mode).await;
    let asked: &[(&str, &str)] = &[("timezone", "Asia/Tokyo"), ("search_path", "a, \"B c\", public"), ("options", "-c work_mem=9MB")];
    let (mut past, mut client) = (bed.past(asked).await, bed.client_with(asked).await);
    let look = "select current_setting('timezone'), current_setting('search_path'), current_setting('work_mem')";
    for reset in ["reset work_mem", "reset timezone", "set search_path to default", "reset all", "discard all"] {
        let change = || vec![query("set work_mem = '1MB'"), query("set timezone = 'UTC'"), query("set search_path = c")];
        let by_query = vec![query(reset), query(look)];
        let by_query_unsynced = vec![parse("", "select 1", &[]), query(reset), query(look)];
        let begin = |end: &str| vec![query("begin"), query(reset), unnamed(look, &[]), sync(), query(end), query(look)];
        let run = || vec![parse("", reset, &[]), bind("", "", &[]), execute("", 0)];
        let in_batch = [run(), vec![unnamed(look, &[]), sync(), query(look)]].concat();
        let in_failed_batch = [run(), vec![unnamed("select 1/0", &[]), sync(), query(look)]].concat();
        let mut ways = vec![(by_query, 2), (by_query_unsynced, 2), (begin("commit"), 5), (begin("rollback"), 5)];
        if mode != Mode::Session {
            // There what an Execute does is not looked at.
            ways.extend([(in_batch, 2), (in_failed_batch, 2)]);
        }
        for (way, rounds) in ways {
            let mut heard = Vec::new();
            for one in [&mut past, &mut client] {
                one.send(&[change(), way.clone()].concat()).await;
                let all = one.ready_times(3 + rounds).await;
                // When a setting is reported is the server's own affair.
                heard.push(all.split(' ').filter(|word| !word.starts_with("S(")).collect::<Vec<_>>().join(" "));
            }
            assert_eq!(heard[1], heard[0], "{}", way.concat().escape_ascii());
            assert_eq!(client.parameters, past.parameters, "{}", way.concat().escape_ascii());
        }
        for one in [&mut past, &mut client] {
            one.query("reset all").await;
        }
    }
}

async fn settings_that_do_not_exist(mode: Mode) {
    let bed = Bed::one(mode).await;
    for (parameter, code) in
        [(("nonsense", "1"), "42704"), (("timezone", "Nowhere/Here"), "22023"), (("options", "-c nonsense=1"), "42704")]
    {
        let error = match bed.try_client(&[parameter]).await {
            Err(error) => error,
            // Where the lease comes later, so may the error.
            Ok(mut client) => client.query("select 1").await,
        };
        assert!(error.contains(code), "{parameter:?}: {error}");
        assert_eq!(bed.client().await.value("select 1").await, "1");
    }
}

async fn newer_protocols_are_negotiated(mode: Mode) {
    let bed = Bed::one(mode).await;
    let parameters = [("user", USER), ("database", &bed.database), ("_pq_.test_protocol_negotiation", ""), ("_pq_.x", "1")];
    for (version, parameters) in [(0x3_0002, &parameters[..2]), (0x3_0000, &parameters[..]), (0x3_270F, &parameters[..])] {
        let mut stream = bed.tcp().await;
        tokio::io::AsyncWriteExt::write_all(&mut stream, &startup(version, parameters)).await.unwrap();
        let mut head = [0; 5];
        stream.read_exact(&mut head).await.unwrap();
        if version == 0x3_0002 && head[0] == b'R' {
            continue; // who knows 3.2 need not negotiate
        }
        assert_eq!(head[0], b'v', "{version:x}: {}", head.escape_ascii());
        let mut body = vec![0; usize::from(head[4]) - 4];
        stream.read_exact(&mut body).await.unwrap();
        let names = if parameters.len() > 2 { &b"_pq_.test_protocol_negotiation\0_pq_.x\0"[..] } else { b"" };
        let minor = u32::from_be_bytes(body[..4].try_into().unwrap());
        assert_eq!(body[8..], *names, "minor version {minor}");
        drop(stream);
        let client = Client::log_in_on(bed.tcp().await, &startup(version, parameters), PASSWORD).await;
        assert_eq!(client.unwrap().value("select 1").await, "1", "{version:x}");
    }
    let refused = Client::log_in_on(bed.tcp().await, &startup(0x4_0000, &parameters[..2]), PASSWORD).await;
    assert!(refused.as_ref().is_err_and(|error| error.contains("0A000")), "{:?}", refused.err());
    assert_eq!(bed.client().await.value("select 1").await, "1");
}

async fn a_database_that_does_not_exist(mode: Mode) {
    let bed = Bed::one(mode).await;
    let parameters = [("user", USER), ("database", "nowhere")];
    let error = match Client::log_in(bed.address(), &parameters, PASSWORD).await {
        Err(error) => error,
        Ok(mut client) => {
            client.send(&[query("select 1")]).await;
            client.rest().await
        }
    };
    assert!(error.contains("3D000: database \"nowhere\" does not exist"), "{error}");
    assert_eq!(bed.client().await.value("select 1").await, "1");
}

async fn requests_for_encryption_are_declined(mode: Mode) {
    if mode == Mode::Direct {
        return; // that server does have TLS
    }
    let bed = Bed::one(mode).await;
    let mut stream = bed.tcp().await;
    for code in [80_877_103_u32, 80_877_104] {
        let request = [&8_u32.to_be_bytes()[..], &code.to_be_bytes()].concat();
        tokio::io::AsyncWriteExt::write_all(&mut stream, &request).await.unwrap();
        let mut answer = [0];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *b"N");
    }
    let client = Client::log_in_on(stream, &startup(0x3_0000, &[("user", USER), ("database", &bed.database)]), PASSWORD).await;
    assert_eq!(client.unwrap().value("select 1").await, "1");
}

async fn the_first_query_may_come_with_a_goodbye(mode: Mode) {
    let bed = Bed::one(mode).await;
    let mut client = bed.client().await;
    client.send(&[query("select 1"), message(b'X', &[])]).await;
    assert_eq!(client.rest().await, "T(?column?) D(1) C(SELECT 1) Z(I)");
    assert_eq!(bed.client().await.value("select 2").await, "2");
}
