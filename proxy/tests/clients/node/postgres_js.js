// postgres.js and pg-cursor: pipelined queries with statements of their own, COPY by streams, cursors, cancelled queries, notifications.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { pipeline } = require('node:stream/promises');
const { Readable } = require('node:stream');
const postgres = require('postgres');
const { Client } = require('pg');
const Cursor = require('pg-cursor');

const schema = process.env.PREFIX;
const blob = Buffer.alloc(300_000, Buffer.from(Array.from({ length: 256 }, (_, i) => i)));
const connection = { ssl: false, onnotice: () => {}, connection: { search_path: schema, timezone: 'Asia/Tokyo' } };

async function values(sql) {
  const [who] = await sql`select current_user::text as user, current_setting('timezone') as zone`;
  assert.deepEqual([who.user, who.zone], [process.env.EXPECT_USER, 'Asia/Tokyo']);
  const [row] = await sql`select ${blob}::bytea as blob, ${'häß😀'}::text as text, ${null}::int as nothing`;
  assert.ok(row.blob.equals(blob));
  assert.deepEqual([row.text, row.nothing], ['häß😀', null]);
  // All at once: they are pipelined on few connections.
  const all = await Promise.all(Array.from({ length: 300 }, (_, i) => sql`select ${i}::int as i`));
  assert.deepEqual(all.map(([{ i }]) => i), Array.from({ length: 300 }, (_, i) => i));
  await assert.rejects(sql`select * from no_such_table`, { code: '42P01' });
  const mixed = await Promise.allSettled(Array.from({ length: 60 }, (_, i) => sql`select 10 / ${i % 3}::int as q`));
  mixed.forEach(({ status }, i) => assert.equal(status, i % 3 === 0 ? 'rejected' : 'fulfilled', `${i}`));
  assert.deepEqual([...(await sql.unsafe('select 1 as a; select 2 as b'))].map((rows) => rows.length), [1, 1]);
}

async function transactions(sql) {
  await sql`create table t (i int, v text)`;
  await sql.begin(async (tx) => {
    await tx`insert into t ${tx([{ i: 1, v: 'one' }, { i: 2, v: 'two' }])}`;
    await tx.savepoint((point) => point`select 1/0`).catch((error) => assert.equal(error.code, '22012'));
  });
  await assert.rejects(sql.begin(async (tx) => {
    await tx`delete from t`;
    throw new Error('given up');
  }), { message: 'given up' });
  const seen = [];
  await sql`select generate_series(1, 1000) as i`.cursor(70, (rows) => { seen.push(...rows.map(({ i }) => i)); });
  assert.equal(seen.length, 1000);
}

async function copies(sql) {
  const lines = Array.from({ length: 20_000 }, (_, i) => `${i}\t${'c'.repeat(100)}\n`);
  for (let round = 0; round < 3; round++) {
    await pipeline(Readable.from(lines), await sql`copy t from stdin`.writable());
    // It says CopyFail behind every COPY.
    assert.equal((await sql`select 1 as one`)[0].one, 1);
  }
  assert.equal((await sql`select count(*)::int as n from t`)[0].n, 60_002);
  let bytes = 0;
  for await (const chunk of await sql`copy t to stdout`.readable()) bytes += chunk.length;
  assert.ok(bytes > 6_000_000, `${bytes}`);
}

async function cancels(sql) {
  const query = sql`select pg_sleep(30)`.execute();
  await new Promise((resolve) => setTimeout(resolve, 300));
  query.cancel();
  await assert.rejects(query, { code: '57014' });
  assert.equal((await sql`select 1 as one`)[0].one, 1);
}

async function notifications(sql) {
  let said;
  const heard = new Promise((resolve) => { said = resolve; });
  await sql.listen(schema, said);
  await sql.notify(schema, 'first');
  assert.equal(await heard, 'first');
}

// Portals that are read in parts, with Flush or Sync between.
async function cursors() {
  const client = new Client({ options: `-c search_path=${schema}`, ssl: false });
  await client.connect();
  for (let round = 0; round < 5; round++) {
    const cursor = client.query(new Cursor('select generate_series(1, $1::int) as i', [100]));
    const rows = [...(await cursor.read(30)), ...(await cursor.read(50)), ...(await cursor.read(50))];
    assert.equal(rows.length, 100);
    await cursor.close();
    const early = client.query(new Cursor('select generate_series(1, 100) as i'));
    assert.equal((await early.read(10)).length, 10);
    await early.close();
    assert.equal((await client.query('select $1::int as i', [round])).rows[0].i, round);
  }
  const wrong = client.query(new Cursor('select 1 / (i - 3) from generate_series(1, 5) i'));
  await assert.rejects(wrong.read(10), { code: '22012' });
  assert.equal((await client.query('select 1 as i')).rows[0].i, 1);
  client.end();
  await once(client, 'end');
}

async function main() {
  const first = postgres({ ...connection, max: 1 });
  await first.unsafe(`create schema ${schema}`);
  const sql = postgres({ ...connection, max: 5 });
  await values(sql);
  await transactions(sql);
  await copies(first);
  await cancels(sql);
  await notifications(sql);
  await cursors();
  await first.end();
  await sql.end();
  console.log('ok');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
