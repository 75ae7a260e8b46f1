// node-redis, RESP2 and RESP3: values, automatic pipelines, transactions, scripts, blocking pops, publish and subscribe, wrong passwords.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const { createClient, RESP_TYPES } = require('redis');

const blob = Buffer.alloc(300_000, Buffer.from(Array.from({ length: 256 }, (_, i) => i)));

function client(RESP, password = process.env.REDIS_PASSWORD || undefined) {
  const socket = { host: process.env.REDIS_HOST, port: Number(process.env.REDIS_PORT), reconnectStrategy: false };
  // Errors reach whoever asked; the event would end the process.
  return createClient({ RESP, password, socket }).on('error', () => {});
}

async function values(redis, prefix) {
  const buffers = redis.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  assert.equal(await redis.set(`${prefix}:blob`, blob), 'OK');
  assert.ok((await buffers.get(`${prefix}:blob`)).equals(blob));
  assert.equal(await redis.get(`${prefix}:nothing`), null);
  await redis.hSet(`${prefix}:hash`, { a: '1', b: 'ü' });
  assert.deepEqual({ ...(await redis.hGetAll(`${prefix}:hash`)) }, { a: '1', b: 'ü' });
  const names = Array.from({ length: 1000 }, (_, i) => String(i));
  assert.deepEqual(await Promise.all(names.map((name) => redis.echo(name))), names);
  assert.deepEqual(await redis.multi().set(`${prefix}:n`, 1).incr(`${prefix}:n`).get(`${prefix}:n`).exec(), ['OK', 2, '2']);
}

async function scripts(redis) {
  await assert.rejects(redis.evalSha('f'.repeat(40)), { message: 'NOSCRIPT No matching script. Please use EVAL.' });
  const sha = await redis.scriptLoad('return {KEYS[1], ARGV[1]}');
  assert.deepEqual(await redis.evalSha(sha, { keys: ['k'], arguments: ['v'] }), ['k', 'v']);
}

async function subscriptions(redis, prefix) {
  const other = redis.duplicate().on('error', () => {});
  await other.connect();
  const popped = other.blPop(`${prefix}:queue`, 10);
  await redis.rPush(`${prefix}:queue`, 'job');
  assert.deepEqual({ ...(await popped) }, { key: `${prefix}:queue`, element: 'job' });
  const heard = new Promise((resolve) => other.subscribe(`${prefix}:news`, resolve));
  while ((await redis.publish(`${prefix}:news`, 'first')) !== 1);
  assert.equal(await heard, 'first');
  await other.unsubscribe();
  // A buffer in RESP2: that is how this library is after a subscription, also without a proxy.
  assert.equal(String(await other.get(`${prefix}:n`)), '2');
  other.destroy();
}

async function passwords(RESP) {
  await assert.rejects(client(RESP, 'not this one').connect(), /WRONGPASS invalid username-password pair/);
  if (process.env.REDIS_PASSWORD) {
    await assert.rejects(async () => {
      const redis = client(RESP, null);
      await redis.connect();
      await redis.ping();
    }, /NOAUTH/);
  }
}

// The library subscribes again by itself.
async function resubscribes() {
  const channel = `${process.env.PREFIX}:news`;
  for (const RESP of [2, 3]) {
    const heard = [];
    clients.push([connecting(RESP), connecting(RESP), heard]);
    const [subscriber, publisher] = clients.at(-1);
    await Promise.all([subscriber.connect(), publisher.connect()]);
    await subscriber.subscribe(channel, (message) => heard.push(message));
    await publisher.publish(channel, 'first');
    await until(() => heard.includes('first'));
  }
  console.log('cut');
  await until(() => fs.existsSync(process.env.CUT_DONE));
  for (const [, publisher, heard] of clients) {
    await until(async () => {
      await publisher.publish(channel, 'second').catch(() => {});
      return heard.includes('second');
    });
  }
}

const clients = [];

function connecting(RESP) {
  const socket = { host: process.env.REDIS_HOST, port: Number(process.env.REDIS_PORT), reconnectStrategy: 10 };
  return createClient({ RESP, password: process.env.REDIS_PASSWORD || undefined, socket }).on('error', () => {});
}

async function until(condition) {
  for (const end = Date.now() + 20_000; !(await condition()); await new Promise((resolve) => setTimeout(resolve, 5))) {
    assert.ok(Date.now() < end, `in vain: ${condition}`);
  }
}

async function main() {
  if (process.env.CUT_DONE) {
    await resubscribes();
    console.log('ok');
    process.exit(0);
  }
  for (const RESP of [2, 3]) {
    const prefix = `${process.env.PREFIX}:${RESP}`;
    const redis = client(RESP);
    await redis.connect();
    await values(redis, prefix);
    await scripts(redis);
    await subscriptions(redis, prefix);
    await redis.close();
    await passwords(RESP);
  }
  console.log('ok');
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
