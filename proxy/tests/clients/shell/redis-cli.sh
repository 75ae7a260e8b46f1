#!/usr/bin/env bash
# redis-cli, RESP2 and RESP3: values, binary values, pipelines, transactions, scripts, mass insertion, publish and subscribe, wrong passwords.
set -euo pipefail

fail() {
    echo "redis-cli: $*" >&2
    exit 1
}

# same WHAT GOT WANTED
same() {
    [ "$2" = "$3" ] || fail "$1: got '$2', wanted '$3'"
}

dir=$(mktemp -d)
subscriber=
trap 'rm -rf "$dir"; [ -z "$subscriber" ] || kill "$subscriber"' EXIT
[ -z "$REDIS_PASSWORD" ] || export REDISCLI_AUTH=$REDIS_PASSWORD
head -c 300000 /dev/urandom >"$dir/blob"

visit() {
    local key=$PREFIX$1 error sha
    cli() {
        redis-cli "$version" -h "$REDIS_HOST" -p "$REDIS_PORT" "$@"
    }
    local version=$1
    same PING "$(cli PING)" PONG
    same SET "$(cli SET "$key" 'häß "quoted"')" OK
    same GET "$(cli GET "$key")" 'häß "quoted"'
    same nothing "$(cli GET "$key:nothing")" ''
    same binary "$(cli -x SET "$key:blob" <"$dir/blob")" OK
    # Without a terminal it adds one newline.
    cli GET "$key:blob" | head -c 300000 | cmp - "$dir/blob" || fail 'a binary value changed'
    cli HSET "$key:hash" a 1 b 2 >/dev/null
    same HGETALL "$(cli HGETALL "$key:hash" | sort | tr '\n' ' ')" "$([ "$version" = -3 ] && echo 'a 1 b 2 ' || echo '1 2 a b ')"
    same transaction "$(printf 'MULTI\nINCR %s:n\nINCR %s:n\nEXEC\n' "$key" "$key" | cli | tr '\n' ' ')" 'OK QUEUED QUEUED 1 2 '
    same 'other database' "$(cli -n 3 DBSIZE)" 0

    error=$(cli EVALSHA ffffffffffffffffffffffffffffffffffffffff 0 2>&1) || true
    same NOSCRIPT "$(head -n 1 <<<"$error")" 'NOSCRIPT No matching script. Please use EVAL.'
    sha=$(cli SCRIPT LOAD 'return {KEYS[1], ARGV[1]}')
    same EVALSHA "$(cli EVALSHA "$sha" 1 k v | tr '\n' ' ')" 'k v '

    # Mass insertion: 20,000 commands in one stream, 1 MB.
    awk -v key="$key:bulk" 'BEGIN { for (i = 0; i < 20000; i++) {
        printf "*3\r\n$5\r\nRPUSH\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", length(key), key, length(i ""), i } }' >"$dir/bulk"
    cli --pipe <"$dir/bulk" | grep -q 'errors: 0, replies: 20000' || fail 'mass insertion lost something'
    same 'mass insertion' "$(cli LLEN "$key:bulk") $(cli LINDEX "$key:bulk" -1)" '20000 19999'

    # It hears until it is told to stop; the subscription is there once PUBLISH reaches somebody.
    cli SUBSCRIBE "$key:news" >"$dir/news" &
    subscriber=$!
    until [ "$(cli PUBLISH "$key:news" first)" = 1 ]; do sleep 0.01; done
    until grep -q first "$dir/news"; do sleep 0.01; done
    kill "$subscriber"
    wait "$subscriber" || true
    subscriber=
}

visit -2
visit -3

error=$(REDISCLI_AUTH='not this one' redis-cli -h "$REDIS_HOST" -p "$REDIS_PORT" PING 2>&1) || true
grep -q 'WRONGPASS invalid username-password pair' <<<"$error" || fail "a wrong password: $error"
if [ -n "$REDIS_PASSWORD" ]; then
    error=$(env -u REDISCLI_AUTH redis-cli -h "$REDIS_HOST" -p "$REDIS_PORT" PING 2>&1) || true
    same 'no password' "$(head -n 1 <<<"$error")" 'NOAUTH Authentication required.'
fi
echo ok
