#!/usr/bin/env bash
# psql: values, prepared statements, transactions, errors, \copy of several megabytes, Ctrl-C, notifications, a wrong password.
set -euo pipefail

fail() {
    echo "psql: $*" >&2
    exit 1
}

# same WHAT GOT WANTED
same() {
    [ "$2" = "$3" ] || fail "$1: got '$2', wanted '$3'"
}

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
ask() {
    "$PSQL" -XAtqw -v ON_ERROR_STOP=1 "$@"
}

export PGOPTIONS="-c search_path=$PREFIX"
ask -c "create schema $PREFIX"
same 'user and database' "$(ask -c 'select current_user, current_database()')" "$EXPECT_USER|$PGDATABASE"
same 'options at startup' "$(ask -c 'show search_path')" "$PREFIX"
same 'a large value' "$(ask -c "select repeat('ab', 200000)" | wc -c)" 400001
same 'a transaction' "$(ask -c 'create table t (i int)' -c 'begin; insert into t values (1); rollback' -c 'select count(*) from t')" 0
same 'prepared' "$(ask -c "prepare p(int) as select \$1 * 2" -c 'execute p(21)')" 42
# A database that the client does not choose is the one of the URL: libpq then says the user's name.
same 'no database chosen' "$(env -u PGDATABASE "$PSQL" -XAtqw -c 'select current_database()')" "$PGDATABASE"

error=$(ask -v VERBOSITY=verbose -c 'select * from no_such_table' 2>&1) && fail 'no error'
grep -q '^ERROR:  42P01: relation "no_such_table" does not exist' <<<"$error" || fail "other words: $error"
grep -q '^LINE 1: select \* from no_such_table' <<<"$error" || fail "no position: $error"

seq 1 200000 | awk '{ print $1 "\tline " $1 " \\\\ with backslash" }' >"$dir/in"
[ "$(wc -c <"$dir/in")" -gt 1000000 ] || fail 'too little to copy'
ask -c 'create table c (i int, text text)' -c "\\copy c from '$dir/in'" -c "\\copy (select * from c order by i) to '$dir/out'"
cmp "$dir/in" "$dir/out" || fail '\copy changed something'

# Ctrl-C sends a cancel request on a connection of its own.
env PGAPPNAME="$PREFIX-sleeper" "$PSQL" -XAtqw -v VERBOSITY=sqlstate -c 'select pg_sleep(30)' >"$dir/sleep" 2>&1 &
sleeper=$!
# Looked for on one connection, until it is there.
ask >/dev/null <<SQL
do \$\$ begin
    for i in 1..1000 loop
        perform pg_stat_clear_snapshot();
        exit when exists (select from pg_stat_activity where application_name = '$PREFIX-sleeper' and wait_event = 'PgSleep');
        perform pg_sleep(0.01);
        if i = 1000 then raise 'no sleeper'; end if;
    end loop;
end \$\$
SQL
kill -INT "$sleeper"
wait "$sleeper" && fail 'the cancelled query ended well'
same 'after Ctrl-C' "$(grep -v '^Cancel request sent' "$dir/sleep")" 'ERROR:  57014'

news=$(ask -c "listen \"$PREFIX\"" -c "notify \"$PREFIX\", 'first'")
[[ $news == *"notification \"$PREFIX\" with payload \"first\""* ]] || fail "no notification: $news"

if [ "$PASSWORD_CHECKED" = yes ]; then
    error=$(PGPASSWORD='not this one' ask -c 'select 1' 2>&1) && fail 'a wrong password was accepted'
    grep -q "password authentication failed for user \"$PGUSER\"" <<<"$error" || fail "other words: $error"
    error=$(env -u PGPASSWORD "$PSQL" -XAtqw -c 'select 1' 2>&1) && fail 'no password was accepted'
    grep -q 'no password supplied' <<<"$error" || fail "other words: $error"
fi
echo ok
