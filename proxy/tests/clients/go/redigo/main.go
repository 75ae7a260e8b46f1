// redigo, which Harbor's job service is built with: values, pipelines, transactions, scripts, blocking pops, publish and subscribe.
package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"clients/check"

	"github.com/gomodule/redigo/redis"
)

func main() {
	prefix := os.Getenv("PREFIX")
	pool := &redis.Pool{
		MaxIdle:      3,
		Dial:         func() (redis.Conn, error) { return dial(os.Getenv("REDIS_PASSWORD")) },
		TestOnBorrow: func(conn redis.Conn, _ time.Time) error { _, err := conn.Do("PING"); return err },
	}
	if check.WantsCut() {
		resubscribes(pool, prefix)
		fmt.Println("ok")
		return
	}
	conn := pool.Get()
	values(conn, prefix)
	pipelines(conn, prefix)
	scripts(conn)
	watches(pool, prefix)
	subscriptions(pool, conn, prefix)
	check.Fine(conn.Close())
	check.Fine(pool.Close())
	passwords()
	fmt.Println("ok")
}

func dial(password string) (redis.Conn, error) {
	address := net.JoinHostPort(os.Getenv("REDIS_HOST"), os.Getenv("REDIS_PORT"))
	return redis.Dial("tcp", address, redis.DialPassword(password), redis.DialReadTimeout(20*time.Second), redis.DialDatabase(1))
}

func values(conn redis.Conn, prefix string) {
	check.Same(check.Value(redis.String(conn.Do("SET", prefix+":blob", check.Blob()))), "OK")
	check.Intact(check.Value(redis.Bytes(conn.Do("GET", prefix+":blob"))), check.Blob())
	_, err := redis.String(conn.Do("GET", prefix+":nothing"))
	check.Same(err, redis.ErrNil)
}

func pipelines(conn redis.Conn, prefix string) {
	for i := range 1000 {
		check.Fine(conn.Send("ECHO", i))
	}
	check.Fine(conn.Flush())
	for i := range 1000 {
		check.Same(check.Value(redis.Int(conn.Receive())), i)
	}
	check.Fine(conn.Send("MULTI"))
	check.Fine(conn.Send("SET", prefix+":n", 1))
	check.Fine(conn.Send("INCR", prefix+":n"))
	answers := check.Value(redis.Values(conn.Do("EXEC")))
	check.Same(answers[1].(int64), 2)
}

func scripts(conn redis.Conn) {
	_, err := conn.Do("EVALSHA", "ffffffffffffffffffffffffffffffffffffffff", 0)
	check.That(err != nil && err.Error() == "NOSCRIPT No matching script. Please use EVAL.", "got %v", err)
	arguments := redis.Args{}.Add(102)
	for i := range 102 {
		arguments = arguments.Add(i)
	}
	check.Same(check.Value(redis.Int(redis.NewScript(-1, "return #KEYS + ARGV[1]").Do(conn, arguments.Add(8)...))), 110)
}

// One transaction that nobody disturbs, one that somebody does.
func watches(pool *redis.Pool, prefix string) {
	conn, other := pool.Get(), pool.Get()
	for _, disturbed := range []bool{false, true} {
		check.Value(conn.Do("WATCH", prefix+":n"))
		value := check.Value(redis.Int(conn.Do("GET", prefix+":n")))
		if disturbed {
			check.Value(other.Do("INCR", prefix+":n"))
		}
		check.Fine(conn.Send("MULTI"))
		check.Fine(conn.Send("SET", prefix+":n", value+10))
		answer := check.Value(conn.Do("EXEC"))
		check.Same(answer == nil, disturbed)
		after := check.Value(redis.Int(conn.Do("GET", prefix+":n")))
		if disturbed {
			check.Same(after, value+1)
		} else {
			check.Same(after, value+10)
		}
	}
	// Given back in the middle of a transaction: the pool says DISCARD.
	check.Fine(conn.Send("MULTI"))
	check.Fine(conn.Send("SET", prefix+":n", "never"))
	check.Fine(conn.Close())
	check.That(check.Value(redis.String(other.Do("GET", prefix+":n"))) != "never", "a transaction happened that nobody finished")
	check.Fine(other.Close())
}

// The library knows of no reconnection: its users subscribe again when they are told that the connection is lost.
func resubscribes(pool *redis.Pool, prefix string) {
	subscription := redis.PubSubConn{Conn: check.Value(dial(os.Getenv("REDIS_PASSWORD")))}
	check.Fine(subscription.Subscribe(prefix + ":news"))
	check.Same(subscription.Receive().(redis.Subscription).Count, 1)
	conn := pool.Get()
	check.Same(check.Value(redis.Int(conn.Do("PUBLISH", prefix+":news", "first"))), 1)
	check.Same(string(subscription.Receive().(redis.Message).Data), "first")
	check.Fine(conn.Close())
	check.Cut()
	lost, isLost := subscription.Receive().(error)
	check.That(isLost, "the subscriber is not told that its connection is lost")
	check.That(!strings.Contains(lost.Error(), "timeout"), "silence in place of an end: %v", lost)
	var err error
	for range 500 {
		var again redis.Conn
		if again, err = dial(os.Getenv("REDIS_PASSWORD")); err == nil {
			subscription = redis.PubSubConn{Conn: again}
			check.Fine(subscription.Subscribe(prefix + ":news"))
			if _, isLost = subscription.Receive().(error); !isLost {
				break
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	check.Fine(err)
	// The pool throws away what fails PING and dials anew.
	conn = pool.Get()
	check.Same(check.Value(redis.Int(conn.Do("PUBLISH", prefix+":news", "second"))), 1)
	check.Same(string(subscription.Receive().(redis.Message).Data), "second")
}

func subscriptions(pool *redis.Pool, conn redis.Conn, prefix string) {
	other := pool.Get()
	check.Fine(other.Send("BRPOP", prefix+":queue", 10))
	check.Fine(other.Flush())
	check.Value(conn.Do("LPUSH", prefix+":queue", "job"))
	check.Same(check.Value(redis.Strings(other.Receive()))[1], "job")

	subscription := redis.PubSubConn{Conn: other}
	check.Fine(subscription.Subscribe(prefix + ":news"))
	check.Same(subscription.Receive().(redis.Subscription).Count, 1)
	check.Same(check.Value(redis.Int(conn.Do("PUBLISH", prefix+":news", check.Blob()))), 1)
	check.Intact(subscription.Receive().(redis.Message).Data, check.Blob())
	check.Fine(subscription.Ping("still there"))
	check.Same(subscription.Receive().(redis.Pong).Data, "still there")
	check.Fine(subscription.Unsubscribe())
	check.Same(subscription.Receive().(redis.Subscription).Count, 0)
	check.Same(check.Value(redis.String(other.Do("ECHO", "back"))), "back")
	check.Fine(other.Close())
}

func passwords() {
	_, err := dial("not this one")
	check.Fails(err, "WRONGPASS invalid username-password pair")
	if os.Getenv("REDIS_PASSWORD") != "" {
		_, err = dial("")
		check.Fails(err, "NOAUTH Authentication required.")
	}
}
