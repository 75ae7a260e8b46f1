// pgx 5: values, its statement cache and other ways of asking, batches, transactions, COPY, cancel, notifications, a pool.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"clients/check"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

func main() {
	ctx, stop := context.WithTimeout(context.Background(), 50*time.Second)
	defer stop()
	schema := os.Getenv("PREFIX")
	conn := check.Value(pgx.Connect(ctx, ""))
	other := check.Value(pgx.Connect(ctx, ""))
	values(ctx, conn)
	transactions(ctx, conn, schema)
	copies(ctx, conn, schema)
	cancels(ctx, conn, other)
	notifications(ctx, conn, other, schema)
	pool(ctx)
	passwords(ctx)
	check.Fine(conn.Close(ctx))
	check.Fine(other.Close(ctx))
	fmt.Println("ok")
}

func values(ctx context.Context, conn *pgx.Conn) {
	var user, database string
	check.Fine(conn.QueryRow(ctx, "select current_user, current_database()").Scan(&user, &database))
	check.Same(user+"|"+database, os.Getenv("EXPECT_USER")+"|"+os.Getenv("PGDATABASE"))
	modes := []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec,
		pgx.QueryExecModeSimpleProtocol,
	}
	for _, mode := range modes {
		for i := range 5 {
			var (
				number  int
				text    string
				blob    []byte
				nothing *int
			)
			row := conn.QueryRow(ctx, "select $1::int + 1, $2::text, $3::bytea, null::int", mode, i, "häß😀", check.Blob())
			check.Fine(row.Scan(&number, &text, &blob, &nothing))
			check.Same(number, i+1)
			check.Same(text, "häß😀")
			check.Intact(blob, check.Blob())
			check.That(nothing == nil, "not null")
		}
	}
	// pgx 4 forgets statements this way, and pgx 5 by Close.
	check.Value(conn.Prepare(ctx, "mine", "select $1::int"))
	check.Fine(conn.DeallocateAll(ctx))

	batch := &pgx.Batch{}
	for i := range 500 {
		batch.Queue("select $1::int", i)
	}
	results := conn.SendBatch(ctx, batch)
	for i := range 500 {
		var got int
		check.Fine(results.QueryRow().Scan(&got))
		check.Same(got, i)
	}
	check.Fine(results.Close())
}

func transactions(ctx context.Context, conn *pgx.Conn, schema string) {
	check.Value(conn.Exec(ctx, fmt.Sprintf("create schema %s; create table %s.t (i int)", schema, schema)))
	tx := check.Value(conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable}))
	check.Value(tx.Exec(ctx, fmt.Sprintf("insert into %s.t values (1)", schema)))
	_, err := tx.Exec(ctx, "select * from no_such_table")
	var failure *pgconn.PgError
	check.That(errors.As(err, &failure), "%v is no error of the server", err)
	check.Same(failure.Code+failure.Message, `42P01relation "no_such_table" does not exist`)
	check.Fine(tx.Rollback(ctx))
	var count int
	check.Fine(conn.QueryRow(ctx, fmt.Sprintf("select count(*) from %s.t", schema)).Scan(&count))
	check.Same(count, 0)
}

func copies(ctx context.Context, conn *pgx.Conn, schema string) {
	rows := make([][]any, 20_000)
	for i := range rows {
		rows[i] = []any{i, strings.Repeat("y", 100)}
	}
	check.Value(conn.Exec(ctx, fmt.Sprintf("create table %s.c (i int, text text)", schema)))
	copied := check.Value(conn.CopyFrom(ctx, pgx.Identifier{schema, "c"}, []string{"i", "text"}, pgx.CopyFromRows(rows)))
	check.Same(copied, 20_000)
	var out strings.Builder
	check.Value(conn.PgConn().CopyTo(ctx, &out, fmt.Sprintf("copy %s.c to stdout", schema)))
	check.Same(strings.Count(out.String(), "\n"), 20_000)
	check.That(out.Len() > 2_000_000, "only %d bytes came out", out.Len())
}

func cancels(ctx context.Context, conn, other *pgx.Conn) {
	// By its text: which process it runs in may change from query to query.
	sleep := fmt.Sprintf("select pg_sleep(30) /* %s */", os.Getenv("PREFIX"))
	ended := make(chan error)
	go func() {
		_, err := conn.Exec(ctx, sleep)
		ended <- err
	}()
	// A cancel that comes before its query is lost.
	for asleep := false; !asleep; {
		row := other.QueryRow(ctx, "select exists (select from pg_stat_activity where query = $1 and wait_event = 'PgSleep')", sleep)
		check.Fine(row.Scan(&asleep))
	}
	check.Fine(conn.PgConn().CancelRequest(ctx))
	check.Fails(<-ended, "57014")
	check.Fine(conn.Ping(ctx))
}

func notifications(ctx context.Context, conn, other *pgx.Conn, channel string) {
	check.Value(conn.Exec(ctx, "listen "+channel))
	check.Value(other.Exec(ctx, "select pg_notify($1, 'first')", channel))
	news := check.Value(conn.WaitForNotification(ctx))
	check.Same(news.Channel+"|"+news.Payload, channel+"|first")
}

func pool(ctx context.Context) {
	config := check.Value(pgxpool.ParseConfig("pool_max_conns=8"))
	pool := check.Value(pgxpool.NewWithConfig(ctx, config))
	defer pool.Close()
	var tasks sync.WaitGroup
	for i := range 100 {
		tasks.Go(func() {
			var got int
			check.Fine(pool.QueryRow(ctx, "select $1::int from pg_sleep(0.001)", i).Scan(&got))
			check.Same(got, i)
		})
	}
	tasks.Wait()
}

func passwords(ctx context.Context) {
	config := check.Value(pgx.ParseConfig(""))
	config.Password = "not this one"
	conn, err := pgx.ConnectConfig(ctx, config)
	if os.Getenv("PASSWORD_CHECKED") == "no" {
		check.Fine(err)
		check.Fine(conn.Close(ctx))
		return
	}
	var failure *pgconn.PgError
	check.That(errors.As(err, &failure), "%v is no error of the server", err)
	check.Same(failure.Code+failure.Message, fmt.Sprintf("28P01password authentication failed for user %q", os.Getenv("PGUSER")))
}
