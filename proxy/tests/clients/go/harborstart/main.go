// How Harbor starts, with the drivers that it is built with: two replicas at once, each takes the migrator's lock, migrates, gives it back, and
// goes on with statement caches that are too small. Harbor up to 2.15 uses pgx 4, later ones pgx 5.
package main

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"clients/check"

	"github.com/golang-migrate/migrate/v4"
	_ "github.com/golang-migrate/migrate/v4/database/pgx"
	_ "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	pgx4 "github.com/jackc/pgx/v4"
	_ "github.com/jackc/pgx/v4/stdlib"
	_ "github.com/jackc/pgx/v5/stdlib"
)

//go:embed migrations
var migrations embed.FS

// The drivers of database/sql and of the migrator.
var flavours = []struct{ driver, scheme string }{{"pgx/v4", "pgx4"}, {"pgx/v5", "pgx5"}}

func main() {
	ctx, stop := context.WithTimeout(context.Background(), 55*time.Second)
	defer stop()
	for _, flavour := range flavours {
		schema := os.Getenv("PREFIX") + "_" + flavour.scheme
		first := check.Value(pgx4.Connect(ctx, ""))
		check.Value(first.Exec(ctx, "create schema "+schema))
		check.Fine(first.Close(ctx))
		var replicas sync.WaitGroup
		for replica := range 2 {
			replicas.Go(func() { start(ctx, flavour.driver, flavour.scheme, schema, replica) })
		}
		replicas.Wait()
	}
	fmt.Println("ok")
}

func start(ctx context.Context, driver, scheme, schema string, replica int) {
	migrateUp(scheme, schema)
	db := check.Value(sql.Open(driver, fmt.Sprintf(
		"host=%s port=%s user=%s password='%s' dbname=%s sslmode=disable timezone=UTC search_path=%s statement_cache_capacity=8",
		os.Getenv("PGHOST"), os.Getenv("PGPORT"), os.Getenv("PGUSER"), strings.ReplaceAll(password(), "'", `\'`), os.Getenv("PGDATABASE"), schema)))
	defer db.Close()
	db.SetMaxOpenConns(6)
	db.SetMaxIdleConns(3)
	var zone string
	check.Fine(db.QueryRow("SELECT current_setting('TIMEZONE')").Scan(&zone))
	check.Same(zone, "UTC")
	var users int
	check.Fine(db.QueryRow("select count(*) from harbor_user").Scan(&users))
	check.Same(users, 2)

	var tasks sync.WaitGroup
	for task := range 12 {
		tasks.Go(func() {
			for round := range 15 {
				work(ctx, db, replica*1000+task*50+round)
			}
		})
	}
	tasks.Wait()
	var count, distinct int
	check.Fine(db.QueryRow("select count(*), count(distinct name) from artifact where replica = $1", replica).Scan(&count, &distinct))
	check.Same(count, 12*15)
	check.Same(distinct, 12*15)
}

// A request: reads with texts that differ, then a transaction with savepoints and an error in the middle.
func work(ctx context.Context, db *sql.DB, id int) {
	for i := range 6 {
		var got int
		// More texts than the cache keeps: what does not fit is deallocated.
		text := fmt.Sprintf("select $1::int + %d /* number %d */", i, (id+i)%20)
		check.Fine(db.QueryRowContext(ctx, text, id).Scan(&got))
		check.Same(got, id+i)
	}
	tx := check.Value(db.BeginTx(ctx, nil))
	name := fmt.Sprintf("artifact %d", id)
	check.Value(tx.Exec("insert into artifact (name, replica, pushed) values ($1, $2, $3)", name, id/1000, time.Unix(int64(id), 0).UTC()))
	check.Value(tx.Exec("SAVEPOINT p1"))
	_, err := tx.Exec("insert into artifact (name, replica) values ($1, $2)", name, id/1000)
	check.That(err != nil, "a name twice")
	check.Value(tx.Exec("ROLLBACK TO SAVEPOINT p1"))
	var pushed time.Time
	check.Fine(tx.QueryRow("select pushed from artifact where name = $1", name).Scan(&pushed))
	check.Same(pushed.UTC().Unix(), int64(id))
	check.Fine(tx.Commit())
	// One that is given up.
	tx = check.Value(db.BeginTx(ctx, nil))
	check.Value(tx.Exec("delete from artifact"))
	check.Fine(tx.Rollback())
}

func migrateUp(scheme, schema string) {
	// The migrator's own URL says nothing about time zones.
	where := url.URL{
		Scheme: scheme, User: url.UserPassword(os.Getenv("PGUSER"), password()), Host: os.Getenv("PGHOST") + ":" + os.Getenv("PGPORT"),
		Path: os.Getenv("PGDATABASE"), RawQuery: "sslmode=disable&search_path=" + schema,
	}
	source := check.Value(iofs.New(migrations, "migrations"))
	migrator := check.Value(migrate.NewWithSourceInstance("iofs", source, where.String()))
	if err := migrator.Up(); !errors.Is(err, migrate.ErrNoChange) {
		check.Fine(err)
	}
	version, dirty, err := migrator.Version()
	check.Fine(err)
	check.Same(version, 3)
	check.Same(dirty, false)
	bySource, byDatabase := migrator.Close()
	check.Fine(bySource)
	check.Fine(byDatabase)
}

func password() string {
	// At the open door any will do, but the drivers want one.
	if password := os.Getenv("PGPASSWORD"); password != "" {
		return password
	}
	return "none"
}
