"""asyncpg: its pool with the query that cleans a connection, prepared statements, cursors, COPY, cancelled queries, notifications."""

import asyncio
import os

import asyncpg

SCHEMA = os.environ["PREFIX"]
BLOB = bytes((i * 31 >> 8) & 255 for i in range(300_000))


def options(**more):
    return {"ssl": False, "password": os.environ.get("PGPASSWORD"), "server_settings": {"search_path": SCHEMA, "timezone": "Asia/Tokyo"}, **more}


async def values(conn):
    assert await conn.fetchval("select current_user::text") == os.environ["EXPECT_USER"]
    for i in range(150):
        # More texts than its cache keeps; each is a statement with a name.
        row = await conn.fetchrow(f"select $1::int + {i}, $2::bytea, $3::text, null::int", i, BLOB[:i], "häß\U0001f600")
        assert tuple(row) == (2 * i, BLOB[:i], "häß\U0001f600", None), row
    assert await conn.fetchval("select $1::bytea", BLOB) == BLOB
    statement = await conn.prepare("select $1::text || 'x' as a, 7 as b")
    assert [attribute.name for attribute in statement.get_attributes()] == ["a", "b"]
    for i in range(20):
        assert await statement.fetchval(str(i)) == f"{i}x"
    try:
        await conn.fetch("select * from no_such_table")
        raise AssertionError("no error")
    except asyncpg.UndefinedTableError as error:
        assert error.position == "15"


async def transactions(conn):
    await conn.execute("create table t (i int primary key, v text)")
    async with conn.transaction():
        await conn.executemany("insert into t values ($1, $2)", [(i, str(i)) for i in range(1000)])
        try:
            async with conn.transaction():
                await conn.execute("insert into t values (1)")
            raise AssertionError("a key twice")
        except asyncpg.UniqueViolationError:
            pass
        seen = [row["i"] async for row in conn.cursor("select i from t order by i", prefetch=7)]
        assert seen == list(range(1000))
    assert await conn.fetchval("select count(*) from t") == 1000
    copied = await conn.copy_records_to_table("t", records=[(i, "c" * 100) for i in range(2000, 4000)])
    assert copied == "COPY 2000", copied
    chunks = bytearray()

    async def take(data):
        chunks.extend(data)

    await conn.copy_from_query("select * from t where i >= $1", 2000, output=take)
    assert chunks.count(b"\n") == 2000 and len(chunks) > 200_000


async def pools():
    async with asyncpg.create_pool(min_size=2, max_size=8, **options()) as pool:

        async def one(i):
            async with pool.acquire() as conn:
                # What is asked for at the start is there whenever the pool has cleaned the connection.
                assert await conn.fetchval("show timezone") == "Asia/Tokyo"
                assert await conn.fetchval("show search_path") == SCHEMA
                assert await conn.fetchval("show application_name") == ""
                await conn.execute(f"set application_name = 'visit {i}'")
                assert await conn.fetchval("select $1::int from pg_sleep(0.001)", i) == i
                assert await conn.fetchval("select pg_try_advisory_lock(hashtext($1), $2)", SCHEMA, i)
                await conn.execute("create temp table mine as select 1 as i")
                assert await conn.fetchval("select count(*) from mine") == 1
                await conn.execute("drop table mine")

        await asyncio.gather(*(one(i) for i in range(60)))
        # Every lock went when its visitor went.
        assert await pool.fetchval("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()") == 0


async def cancels(conn):
    for _ in range(3):
        try:
            await asyncio.wait_for(conn.fetch("select pg_sleep(30)"), 0.2)
            raise AssertionError("not cancelled")
        except asyncio.TimeoutError:
            pass
        assert await conn.fetchval("select 1") == 1


async def notifications(conn, other):
    heard = asyncio.Queue()
    await conn.add_listener(SCHEMA, lambda _conn, _pid, channel, payload: heard.put_nowait((channel, payload)))
    await other.execute("select pg_notify($1, 'first')", SCHEMA)
    assert await asyncio.wait_for(heard.get(), 10) == (SCHEMA, "first")


async def main():
    conn = await asyncpg.connect(**options())
    other = await asyncpg.connect(**options(statement_cache_size=0))
    await conn.execute(f"create schema {SCHEMA}")
    await values(conn)
    await values(other)
    await transactions(conn)
    await cancels(conn)
    await notifications(conn, other)
    await pools()
    await conn.close()
    await other.close()
    print("ok")


asyncio.run(main())
