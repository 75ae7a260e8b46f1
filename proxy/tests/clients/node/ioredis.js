// ioredis: values, automatic pipelining, transactions, scripts, blocking pops, publish and subscribe by a duplicate, wrong passwords.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const { Redis } = require('ioredis');

const blob = Buffer.alloc(300_000, Buffer.from(Array.from({ length: 256 }, (_, i) => i)));
const prefix = process.env.PREFIX;
const channel = `${prefix}:news`;

function client(options = {}) {
  const { REDIS_HOST: host, REDIS_PORT: port, REDIS_PASSWORD: password } = process.env;
  const redis = new Redis({ host, port: Number(port), password: password || undefined, retryStrategy: null, maxRetriesPerRequest: 0, ...options });
  // Errors reach whoever asked; the event would end the process.
  return redis.on('error', () => {});
}

async function until(condition) {
  for (const end = Date.now() + 20_000; !(await condition()); await new Promise((resolve) => setTimeout(resolve, 5))) {
    assert.ok(Date.now() < end, `in vain: ${condition}`);
  }
}

async function values(redis) {
  assert.equal(await redis.set(`${prefix}:blob`, blob), 'OK');
  assert.ok((await redis.getBuffer(`${prefix}:blob`)).equals(blob));
  assert.equal(await redis.get(`${prefix}:nothing`), null);
  await redis.hset(`${prefix}:hash`, { a: '1', b: 'ü' });
  assert.deepEqual(await redis.hgetall(`${prefix}:hash`), { a: '1', b: 'ü' });
  const names = Array.from({ length: 1000 }, (_, i) => String(i));
  assert.deepEqual(await Promise.all(names.map((name) => redis.echo(name))), names);
  const pipeline = redis.pipeline();
  names.forEach((name) => pipeline.set(`${prefix}:${name}`, name).get(`${prefix}:${name}`));
  assert.deepEqual(await pipeline.exec(), names.flatMap((name) => [[null, 'OK'], [null, name]]));
}

async function transactions(redis) {
  const key = `${prefix}:n`;
  const whole = await redis.multi().set(key, 1).incr(key).get(key).exec();
  assert.deepEqual(whole, [[null, 'OK'], [null, 2], [null, '2']]);
  // In pieces, each awaited.
  await redis.multi({ pipeline: false });
  assert.equal(await redis.incr(key), 'QUEUED');
  assert.deepEqual(await redis.exec(), [[null, 3]]);
  const other = redis.duplicate().on('error', () => {});
  await redis.watch(key);
  await other.incr(key);
  assert.equal(await redis.multi().set(key, 9).exec(), null);
  assert.equal(await redis.get(key), '4');
  other.disconnect();
}

async function scripts(redis) {
  await assert.rejects(redis.evalsha('f'.repeat(40), 0), { message: 'NOSCRIPT No matching script. Please use EVAL.' });
  redis.defineCommand('pair', { numberOfKeys: 1, lua: `-- ${prefix}\nreturn {KEYS[1], ARGV[1]}` });
  // The first time it is not known, and sent whole.
  assert.deepEqual(await redis.pair('k', 'v'), ['k', 'v']);
  assert.deepEqual(await redis.pair('k', 'w'), ['k', 'w']);
}

async function duplicates(redis) {
  const other = redis.duplicate().on('error', () => {});
  const popped = other.blpop(`${prefix}:queue`, 10);
  await redis.rpush(`${prefix}:queue`, 'job');
  assert.deepEqual(await popped, [`${prefix}:queue`, 'job']);
  const heard = new Promise((resolve) => other.once('message', (...message) => resolve(message)));
  assert.equal(await other.subscribe(channel), 1);
  assert.equal(await redis.publish(channel, 'first'), 1);
  assert.deepEqual(await heard, [channel, 'first']);
  assert.equal(await other.unsubscribe(channel), 0);
  assert.equal(await other.get(`${prefix}:n`), '4');
  other.disconnect();
}

async function databases() {
  const redis = client({ db: 2, connectionName: 'worker' });
  assert.equal(await redis.get(`${prefix}:n`), null);
  assert.equal(await redis.client('GETNAME'), 'worker');
  await redis.select(0);
  assert.equal(await redis.get(`${prefix}:n`), '4');
  assert.equal(await redis.quit(), 'OK');
}

async function passwords() {
  await assert.rejects(client({ password: 'not this one' }).get('k'), /WRONGPASS|NOAUTH|Connection is closed/);
  if (process.env.REDIS_PASSWORD) {
    await assert.rejects(client({ password: undefined }).get('k'), /NOAUTH/);
  }
}

// The library subscribes again by itself.
async function resubscribes() {
  const retrying = { retryStrategy: () => 10, maxRetriesPerRequest: null, autoResubscribe: true };
  const [subscriber, publisher, heard] = [client(retrying), client(retrying), []];
  subscriber.on('message', (_, message) => heard.push(message));
  await subscriber.subscribe(channel);
  await publisher.publish(channel, 'first');
  await until(() => heard.includes('first'));
  console.log('cut');
  await until(() => fs.existsSync(process.env.CUT_DONE));
  await until(async () => {
    await publisher.publish(channel, 'second').catch(() => {});
    return heard.includes('second');
  });
}

async function main() {
  if (process.env.CUT_DONE) {
    await resubscribes();
  } else {
    for (const enableAutoPipelining of [false, true]) {
      const redis = client({ enableAutoPipelining });
      await values(redis);
      if (!enableAutoPipelining) {
        // They need the connection's order of their own.
        await transactions(redis);
        await scripts(redis);
        await duplicates(redis);
      }
      assert.equal(await redis.quit(), 'OK');
    }
    await databases();
    await passwords();
  }
  console.log('ok');
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
