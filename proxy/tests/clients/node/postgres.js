// node-postgres (`pg`): values, prepared statements, a pool, transactions, cancel, notifications, errors, a wrong password.
'use strict';

// To this library `prefer` means that TLS is a must.
process.env.PGSSLMODE = 'disable';

const assert = require('node:assert/strict');
const { Client, Pool, Query } = require('pg');

const schema = process.env.PREFIX;
const blob = Buffer.alloc(300_000, Buffer.from(Array.from({ length: 256 }, (_, i) => i)));

async function values(client) {
  const who = await client.query('select current_user::text as user, current_database()::text as database');
  assert.deepEqual(who.rows[0], { user: process.env.EXPECT_USER, database: process.env.PGDATABASE });
  // Buffers travel in binary form.
  const { rows } = await client.query('select $1::bytea as blob, $2::text as text, null::int as nothing', [blob, 'häß😀']);
  assert.ok(rows[0].blob.equals(blob));
  assert.deepEqual([rows[0].text, rows[0].nothing], ['häß😀', null]);
  for (let i = 0; i < 50; i++) {
    const doubled = await client.query({ name: 'double', text: 'select $1::int * 2 as twice', values: [i] });
    assert.equal(doubled.rows[0].twice, i * 2);
  }
  const several = await client.query("select 1 as a; select repeat('x', 1000000) as b");
  assert.deepEqual([several[0].rows[0].a, several[1].rows[0].b.length], [1, 1_000_000]);
  // Queued without waiting for answers.
  const answers = await Promise.all(Array.from({ length: 200 }, (_, i) => client.query('select $1::int as i', [i])));
  assert.deepEqual(answers.map((answer) => answer.rows[0].i), Array.from({ length: 200 }, (_, i) => i));
}

async function transactions(client) {
  await client.query(`create schema ${schema}; create table ${schema}.t (i int)`);
  await client.query('begin');
  await client.query(`insert into ${schema}.t values (1)`);
  await assert.rejects(client.query('select * from no_such_table'), { code: '42P01', message: 'relation "no_such_table" does not exist', position: '15' });
  await assert.rejects(client.query('select 1'), { code: '25P02' });
  await client.query('rollback');
  assert.equal((await client.query(`select count(*)::int as n from ${schema}.t`)).rows[0].n, 0);
}

async function cancels(client, other) {
  // By its text: which process it runs in may change from query to query.
  const text = `select pg_sleep(30) /* ${schema} */`;
  const query = new Query(text);
  const ended = new Promise((resolve, reject) => query.on('error', resolve).on('end', () => reject(new Error('not cancelled'))));
  client.query(query);
  // A cancel that comes before its query is lost.
  const sleeping = "select 1 from pg_stat_activity where query = $1 and wait_event = 'PgSleep'";
  while ((await other.query(sleeping, [text])).rows.length === 0);
  new Client().cancel(client, query);
  assert.equal((await ended).code, '57014');
  assert.equal((await client.query('select 1 as one')).rows[0].one, 1);
}

async function notifications(client, other) {
  const heard = new Promise((resolve) => client.once('notification', resolve));
  await client.query(`listen ${schema}`);
  await other.query('select pg_notify($1, $2)', [schema, 'first']);
  const { channel, payload } = await heard;
  assert.deepEqual([channel, payload], [schema, 'first']);
}

async function passwords() {
  const client = new Client({ password: 'not this one' });
  if (process.env.PASSWORD_CHECKED === 'no') {
    await client.connect();
    return client.end();
  }
  await assert.rejects(client.connect(), { code: '28P01', message: `password authentication failed for user "${process.env.PGUSER}"` });
}

async function main() {
  const pool = new Pool({ max: 8 });
  const client = new Client();
  await client.connect();
  await values(client);
  await transactions(client);
  await cancels(client, pool);
  await notifications(client, pool);
  const answers = await Promise.all(Array.from({ length: 40 }, (_, i) => pool.query('select $1::int as i, pg_sleep(0.002)', [i])));
  assert.deepEqual(answers.map((answer) => answer.rows[0].i), Array.from({ length: 40 }, (_, i) => i));
  await client.end();
  await pool.end();
  await passwords();
  console.log('ok');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
