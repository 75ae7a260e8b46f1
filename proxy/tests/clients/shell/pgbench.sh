#!/usr/bin/env bash
# pgbench: initialisation by COPY, then every way in which it can ask, also with a new connection for each transaction.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# Says everything when it fails.
bench() {
    "$PGBENCH" "$@" >"$dir/out" 2>&1 || { cat "$dir/out" >&2; exit 1; }
}

# all N: every transaction was counted and none failed.
all() {
    grep -q "number of transactions actually processed: $1/$1" "$dir/out" && grep -q 'number of failed transactions: 0 ' "$dir/out" && return
    cat "$dir/out" >&2
    exit 1
}

"$PSQL" -XAtqw -c "create schema $PREFIX"
export PGOPTIONS="-c search_path=$PREFIX"
# 100,000 rows: 10 MB.
bench -i -I dtGvp -s 1
bench -i -I dtgvpf -s 1
for protocol in simple extended prepared; do
    bench -n -M "$protocol" -c 4 -j 2 -t 50
    all 200
    bench -n -M "$protocol" -c 4 -j 2 -t 10 -C -S
    all 40
done
printf '%s\n' '\startpipeline' 'select 1;' 'select abalance from pgbench_accounts where aid = 7;' '\endpipeline' >"$dir/pipeline"
bench -n -M prepared -c 2 -t 100 -f "$dir/pipeline"
all 200
same=$("$PSQL" -XAtqw -c 'select (select sum(delta) from pgbench_history) = (select sum(abalance) from pgbench_accounts),
    (select count(*) from pgbench_history), (select count(*) from pgbench_accounts)')
[ "$same" = 't|600|100000' ] || { echo "pgbench: sums and counts: $same" >&2; exit 1; }
echo ok
