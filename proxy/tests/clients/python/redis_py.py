"""redis-py, RESP2 and RESP3: values, pipelines, transactions, WATCH, scripts, blocking pops, publish and subscribe, wrong passwords."""

import asyncio
import os
import threading
import time

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

BLOB = bytes((i * 31 >> 8) & 255 for i in range(300_000))
PASSWORD = os.environ["REDIS_PASSWORD"] or None


def connect(protocol, password=PASSWORD, module=redis):
    # Without retries, which would go on for seconds with a wrong password and hide a connection that breaks.
    retry = {redis: Retry, redis.asyncio: AsyncRetry}[module](NoBackoff(), 0)
    port = int(os.environ["REDIS_PORT"])
    return module.Redis(host=os.environ["REDIS_HOST"], port=port, password=password, protocol=protocol, socket_timeout=20, retry=retry)


def values(client, prefix):
    assert client.ping()
    assert client.set(f"{prefix}:blob", BLOB) and client.get(f"{prefix}:blob") == BLOB
    assert client.set(f"{prefix}:large", BLOB * 10) and client.get(f"{prefix}:large") == BLOB * 10
    assert client.get(f"{prefix}:nothing") is None
    client.hset(f"{prefix}:hash", mapping={"a": 1, "b": "ü"})
    assert client.hgetall(f"{prefix}:hash") == {b"a": b"1", b"b": "ü".encode()}
    client.zadd(f"{prefix}:zset", {"x": 1.5})
    assert client.zscore(f"{prefix}:zset", "x") == 1.5


def pipelines(client, prefix):
    with client.pipeline(transaction=False) as pipe:
        for i in range(2000):
            pipe.echo(str(i))
        assert pipe.execute() == [str(i).encode() for i in range(2000)]
    with client.pipeline(transaction=True) as pipe:
        assert pipe.set(f"{prefix}:n", 1).incr(f"{prefix}:n").lpush(f"{prefix}:n", 1).execute(raise_on_error=False)[:2] == [True, 2]
    with client.pipeline() as pipe:
        pipe.watch(f"{prefix}:n")
        client.incr(f"{prefix}:n")
        try:
            pipe.multi()
            pipe.set(f"{prefix}:n", 9).execute()
            raise AssertionError("a watched key changed and nobody said so")
        except redis.WatchError:
            pass
    assert client.get(f"{prefix}:n") == b"3"


def scripts(client, prefix):
    try:
        client.evalsha("f" * 40, 0)
        raise AssertionError("no error")
    except redis.exceptions.NoScriptError as error:
        assert str(error) == "No matching script. Please use EVAL.", error
    # Harbor's kind: many keys; the client sends EVALSHA, is told NOSCRIPT, loads and tries again.
    script = client.register_script(f"-- {prefix}\nreturn #KEYS + ARGV[1]")
    assert script(keys=[f"k{i}" for i in range(102)], args=[8]) == 110
    try:
        client.lpush(f"{prefix}:blob", 1)
        raise AssertionError("no error")
    except redis.ResponseError as error:
        assert "Operation against a key holding the wrong kind of value" in str(error), error


def blocking(client, prefix):
    got = []
    thread = threading.Thread(target=lambda: got.append(client.blpop(f"{prefix}:queue", timeout=10)))
    thread.start()
    client.rpush(f"{prefix}:queue", "job")
    thread.join(10)
    key, value = got[0]
    assert (key, value) == (f"{prefix}:queue".encode(), b"job"), got
    assert client.blpop(f"{prefix}:queue", timeout=0.01) is None


def subscriptions(client, prefix):
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(f"{prefix}:news")
        pubsub.psubscribe(f"{prefix}:*")
        # The numbers of subscribers tell when both are there.
        while client.publish(f"{prefix}:news", BLOB) != 2:
            pass
        kinds = set()
        while kinds != {"message", "pmessage"}:
            message = pubsub.get_message(timeout=10)
            if message is not None:
                assert message["data"] == BLOB
                kinds.add(message["type"])


async def many(protocol, prefix):
    async with connect(protocol, module=redis.asyncio) as client:
        await asyncio.gather(*(client.set(f"{prefix}:{i}", i) for i in range(30)))
        assert await asyncio.gather(*(client.get(f"{prefix}:{i}") for i in range(30))) == [str(i).encode() for i in range(30)]


def passwords(protocol):
    try:
        connect(protocol, "not this one").ping()
        raise AssertionError("a wrong password was accepted")
    except redis.AuthenticationError as error:
        assert "invalid username-password pair" in str(error), error
    if PASSWORD:
        try:
            connect(protocol, None).ping()
            raise AssertionError("no password was accepted")
        except redis.AuthenticationError as error:
            # To PING in RESP2, to HELLO in RESP3.
            words = "Authentication required." if protocol == 2 else "HELLO must be called with the client already authenticated"
            assert str(error).startswith(words), error


def resubscribes(protocol, prefix):
    """The library connects and subscribes again by itself when it is asked for the next message."""
    client, other = connect(protocol), connect(protocol)
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe(f"{prefix}:news")
    while other.publish(f"{prefix}:news", "first") != 1:
        pass
    assert next_message(pubsub) == b"first"
    yield
    deadline = time.monotonic() + 20
    while True:
        assert time.monotonic() < deadline, "the subscription is lost"
        try:
            other.publish(f"{prefix}:news", "second")
        except redis.ConnectionError:
            pass  # cut as well
        try:
            message = pubsub.get_message(timeout=0.01)
        except redis.ConnectionError:
            continue
        if message is not None:
            assert message["data"] == b"second", message
            return


def next_message(pubsub):
    while True:
        message = pubsub.get_message(timeout=10)
        if message is not None:
            return message["data"]


def with_a_cut():
    subscribers = [resubscribes(protocol, f"{os.environ['PREFIX']}:{protocol}") for protocol in (2, 3)]
    for subscriber in subscribers:
        next(subscriber)
    print("cut", flush=True)
    while not os.path.exists(os.environ["CUT_DONE"]):
        time.sleep(0.002)
    for subscriber in subscribers:
        assert next(subscriber, None) is None
    print("ok")


def main():
    if "CUT_DONE" in os.environ:
        return with_a_cut()
    for protocol in (2, 3):
        prefix = f"{os.environ['PREFIX']}:{protocol}"
        with connect(protocol) as client:
            for part in (values, pipelines, scripts, blocking, subscriptions):
                part(client, prefix)
        asyncio.run(many(protocol, prefix))
        passwords(protocol)
    print("ok")


main()
