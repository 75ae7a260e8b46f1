//! The exchanges: messages of every kind, each leaving the connection and the database as it found them, or closing the connection.

use crate::pg_modes::message::{
    bind, close, copy_data, copy_done, copy_fail, describe, execute, flush, function_call, parse, query, run, sync, terminate, unnamed,
};

/// What a client sends in one go.
pub(crate) struct Exchange {
    pub(crate) name: &'static str,
    pub(crate) requests: Vec<u8>,
    /// How many ReadyForQuery come.
    pub(crate) answers: usize,
    pub(crate) closes: bool,
}

fn goes_on(name: &'static str, answers: usize, messages: &[Vec<u8>]) -> Exchange {
    Exchange { name, requests: messages.concat(), answers, closes: false }
}

fn closes(name: &'static str, answers: usize, messages: &[Vec<u8>]) -> Exchange {
    Exchange { name, requests: messages.concat(), answers, closes: true }
}

pub(crate) fn all() -> Vec<Exchange> {
    vec![
        goes_on("simple", 2, &[query("select 1 as a, null, 'x'"), query("")]),
        goes_on("several statements", 1, &[query("select 1; select 2; set local work_mem = '5MB'")]),
        goes_on("an error", 2, &[query("select * from nothing"), query("select 1")]),
        goes_on("unnamed", 1, &[unnamed("select $1::text", &[Some("v")]), sync()]),
        goes_on("named", 2, &[parse("s", "select 1", &[]), describe(b'S', "s"), sync(), run("s", &[]), close(b'S', "s"), sync()]),
        goes_on(
            "shared text",
            1,
            &[parse("a", "select 7", &[]), parse("b", "select 7", &[]), run("b", &[]), close(b'S', "a"), close(b'S', "b"), sync()],
        ),
        goes_on("parsed in vain", 2, &[bind("", "no", &[]), parse("s", "select 5", &[]), sync(), unnamed("select 5", &[]), sync()]),
        goes_on("taken", 2, &[parse("s", "select 1", &[]), parse("s", "select 2", &[]), sync(), run("s", &[]), close(b'S', "s"), sync()]),
        goes_on("deallocated", 2, &[parse("s", "select 1", &[]), sync(), query("deallocate s")]),
        goes_on("deallocated in a batch", 1, &[parse("s", "select 1", &[]), unnamed("deallocate s", &[]), run("s", &[]), sync()]),
        goes_on(
            "an error in a batch",
            2,
            &[unnamed("select 1/0", &[]), unnamed("select 2", &[]), query("select 3"), sync(), query("select 4")],
        ),
        goes_on(
            "flushed",
            1,
            &[parse("", "select generate_series(1, 5)", &[]), bind("p", "", &[]), execute("p", 2), flush(), execute("p", 0), sync()],
        ),
        goes_on("a transaction", 3, &[query("begin"), unnamed("select 1", &[]), sync(), query("rollback")]),
        goes_on("a failed one", 4, &[query("begin"), query("selec"), query("select 1"), query("commit")]),
        goes_on("a setting", 3, &[query("set application_name = 'a'"), query("select 1"), query("reset application_name")]),
        goes_on(
            "a zone",
            2,
            &[unnamed("set timezone = 'Asia/Tokyo'", &[]), unnamed("show timezone", &[]), sync(), query("reset timezone")],
        ),
        goes_on("a lock", 2, &[query("select pg_advisory_lock(1)"), query("select pg_advisory_unlock(1)")]),
        goes_on("a temporary table", 3, &[query("create temp table x as select 1 as i"), query("select i from x"), query("drop table x")]),
        goes_on("listen", 3, &[query("listen news"), query("notify news, 'me'"), query("unlisten *")]),
        goes_on(
            "copy in",
            2,
            &[query("begin; copy t from stdin"), copy_data(b"1\n2\n"), copy_data(b"3\n"), copy_done(), query("rollback")],
        ),
        goes_on("copy in a batch", 1, &[unnamed("copy t from stdin", &[]), sync(), copy_data(b"x\n"), copy_done(), sync()]),
        goes_on(
            "copy given up",
            2,
            &[query("copy t from stdin"), copy_data(b"1\n"), copy_fail("no"), copy_fail("late"), query("select 1")],
        ),
        goes_on("copy out", 1, &[query("copy (select generate_series(1, 5)) to stdout")]),
        goes_on("notices", 1, &[query("do $$ begin raise notice 'n'; raise warning 'w'; end $$")]),
        goes_on("a function", 1, &[function_call(1397, &["-5"])]),
        goes_on("many syncs", 3, &[sync(), flush(), sync(), close(b'P', "none"), sync()]),
        closes("goodbye", 1, &[query("select 1"), terminate()]),
        closes("goodbye in a transaction", 1, &[query("begin"), terminate()]),
    ]
}
