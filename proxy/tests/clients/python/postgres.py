"""psycopg 3: values, prepared statements, pipelines, transactions, COPY, cancel, notifications, many asynchronous connections."""

import asyncio
import datetime
import hashlib
import os
import threading

import psycopg
from psycopg import errors

SCHEMA = os.environ["PREFIX"]
BLOB = bytes((i * 31 >> 8) & 255 for i in range(300_000))


def values(conn):
    who = conn.execute("select current_user, current_database()").fetchone()
    assert who == (os.environ["EXPECT_USER"], os.environ["PGDATABASE"]), who
    assert conn.info.parameter_status("client_encoding") == "UTF8"
    assert conn.info.parameter_status("application_name") == "psycopg test"
    # Both formats of the extended protocol.
    for kind in ("%b", "%t"):
        row = conn.execute(f"select {kind}::bytea, {kind}::text, null", (BLOB, "häß\U0001f600"), binary=kind == "%b").fetchone()
        assert row == (BLOB, "häß\U0001f600", None)
    now = datetime.datetime.now(datetime.timezone.utc)
    assert conn.execute("select %s, %s", (now, [1, 2, None])).fetchone() == (now, [1, 2, None])
    assert len(conn.execute("select repeat('x', 3000000)").fetchone()[0]) == 3_000_000
    for i in range(20):
        assert conn.execute("select %s::int + 1", (i,), prepare=True).fetchone() == (i + 1,)
    assert conn.execute("select count(*) from pg_prepared_statements where not from_sql").fetchone()[0] >= 1
    said = []
    conn.add_notice_handler(lambda diagnostic: said.append(diagnostic.message_primary))
    conn.execute("do $$ begin raise notice 'listen to me'; end $$")
    assert said == ["listen to me"], said


def transactions(conn):
    conn.execute("create table t (i int primary key)")
    with conn.transaction():
        conn.execute("insert into t values (1)")
        try:
            with conn.transaction():
                conn.execute("insert into t values (2)")
                conn.execute("insert into t values (1)")
            raise AssertionError("a key twice")
        except errors.UniqueViolation as error:
            assert error.diag.constraint_name == "t_pkey"
    assert conn.execute("select array_agg(i) from t").fetchone() == ([1],)
    with conn.transaction(), conn.cursor(name="c") as cursor:
        cursor.execute("select generate_series(1, 5000)")
        assert sum(row[0] for row in cursor) == 12_502_500
    try:
        conn.execute("select * from no_such_table")
        raise AssertionError("no error")
    except errors.UndefinedTable as error:
        found = (error.diag.sqlstate, error.diag.message_primary, error.diag.statement_position)
        assert found == ("42P01", 'relation "no_such_table" does not exist', "15"), found


def pipelines(conn):
    with conn.pipeline():
        cursors = [conn.execute("select %s::int, %b", (i, BLOB[:2000])) for i in range(300)]
        assert [cursor.fetchone() for cursor in cursors] == [(i, BLOB[:2000]) for i in range(300)]
    try:
        with conn.pipeline():
            conn.execute("select 1/0")
            conn.execute("select 1")
        raise AssertionError("no error")
    except errors.DivisionByZero:
        pass
    with conn.cursor() as cursor:
        cursor.executemany("insert into t values (%s)", [(i,) for i in range(10, 1010)])
    assert conn.execute("select count(*) from t").fetchone() == (1001,)


def copies(conn):
    conn.execute("create table c (i int, data bytea)")
    with conn.cursor() as cursor:
        with cursor.copy("copy c from stdin (format binary)") as copy:
            copy.set_types(["int4", "bytea"])
            for i in range(20):
                copy.write_row((i, BLOB))
        seen = hashlib.sha256()
        with cursor.copy("copy (select data from c order by i) to stdout (format binary)") as copy:
            copy.set_types(["bytea"])
            for (data,) in copy.rows():
                seen.update(data)
    assert seen.digest() == hashlib.sha256(BLOB * 20).digest()
    try:
        with conn.cursor() as cursor, cursor.copy("copy c from stdin") as copy:
            copy.write(b"not a number\t\n")
        raise AssertionError("no error")
    except errors.InvalidTextRepresentation:
        pass


def cancels(conn, other):
    # By its text: which process it runs in may change from query to query.
    text = f"select pg_sleep(30) /* {SCHEMA} */"
    for cancel in (conn.cancel, conn.cancel_safe):
        cancelled = []

        def sleep():
            try:
                conn.execute(text)
            except errors.QueryCanceled as error:
                cancelled.append(error)

        thread = threading.Thread(target=sleep)
        thread.start()
        # A cancel that comes before its query is lost.
        sleeping = "select 1 from pg_stat_activity where query = %s and wait_event = 'PgSleep'"
        while other.execute(sleeping, (text,)).fetchone() is None:
            pass
        cancel()
        thread.join(10)
        assert len(cancelled) == 1
        assert conn.execute("select 1").fetchone() == (1,)


def notifications(conn, other):
    conn.execute(f"listen {SCHEMA}")
    other.execute("select pg_notify(%s, 'first'), pg_notify(%s, 'second')", (SCHEMA, SCHEMA))
    news = [(notify.channel, notify.payload) for notify in conn.notifies(timeout=10, stop_after=2)]
    assert news == [(SCHEMA, "first"), (SCHEMA, "second")], news


async def many():
    async def one(i):
        async with await psycopg.AsyncConnection.connect(autocommit=True) as conn:
            for j in range(5):
                cursor = await conn.execute("select %s::int, pg_sleep(0.001)", (i + j,))
                assert (await cursor.fetchone())[0] == i + j

    await asyncio.gather(*(one(i) for i in range(12)))


def passwords():
    if os.environ["PASSWORD_CHECKED"] == "no":
        with psycopg.connect(password="any") as conn:
            assert conn.execute("select 1").fetchone() == (1,)
        return
    try:
        psycopg.connect(password="not this one")
        raise AssertionError("a wrong password was accepted")
    except psycopg.OperationalError as error:
        assert f'password authentication failed for user "{os.environ["PGUSER"]}"' in str(error), error


def main():
    with psycopg.connect(autocommit=True, application_name="psycopg test", options=f"-c search_path={SCHEMA}") as conn:
        conn.execute(f"create schema {SCHEMA}")
        values(conn)
        transactions(conn)
        pipelines(conn)
        copies(conn)
        with psycopg.connect(autocommit=True) as other:
            cancels(conn, other)
            notifications(conn, other)
    asyncio.run(many())
    passwords()
    print("ok")


main()
