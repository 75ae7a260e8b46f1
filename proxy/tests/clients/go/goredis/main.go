// go-redis 9, RESP2 and RESP3: values, pipelines, transactions, scripts, blocking pops, publish and subscribe, wrong passwords.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"clients/check"

	"github.com/redis/go-redis/v9"
)

func main() {
	ctx, stop := context.WithTimeout(context.Background(), 50*time.Second)
	defer stop()
	if check.WantsCut() {
		resubscribes(ctx)
		fmt.Println("ok")
		return
	}
	for _, protocol := range []int{2, 3} {
		prefix := fmt.Sprintf("%s:%d", os.Getenv("PREFIX"), protocol)
		client := connect(protocol, os.Getenv("REDIS_PASSWORD"))
		values(ctx, client, prefix)
		pipelines(ctx, client, prefix)
		scripts(ctx, client)
		watches(ctx, client, prefix)
		subscriptions(ctx, client, prefix)
		check.Fine(client.Close())
		passwords(ctx, protocol)
	}
	fmt.Println("ok")
}

func connect(protocol int, password string) *redis.Client {
	address := net.JoinHostPort(os.Getenv("REDIS_HOST"), os.Getenv("REDIS_PORT"))
	return redis.NewClient(&redis.Options{Addr: address, Password: password, Protocol: protocol})
}

func values(ctx context.Context, client *redis.Client, prefix string) {
	check.Same(check.Value(client.Ping(ctx).Result()), "PONG")
	check.Fine(client.Set(ctx, prefix+":blob", check.Blob(), 0).Err())
	check.Intact(check.Value(client.Get(ctx, prefix+":blob").Bytes()), check.Blob())
	check.Same(client.Get(ctx, prefix+":nothing").Err(), error(redis.Nil))
	check.Fine(client.HSet(ctx, prefix+":hash", "a", 1, "b", "ü").Err())
	check.Same(check.Value(client.HGetAll(ctx, prefix+":hash").Result())["b"], "ü")
	// More tasks than connections.
	var tasks sync.WaitGroup
	for i := range 200 {
		tasks.Go(func() {
			check.Same(check.Value(client.Echo(ctx, i).Result()), strconv.Itoa(i))
		})
	}
	tasks.Wait()
}

func pipelines(ctx context.Context, client *redis.Client, prefix string) {
	echoes := make([]*redis.StringCmd, 1000)
	check.Value(client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range echoes {
			echoes[i] = pipe.Echo(ctx, i)
		}
		return nil
	}))
	for i, echo := range echoes {
		check.Same(echo.Val(), strconv.Itoa(i))
	}
	number := prefix + ":n"
	answers := check.Value(client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Set(ctx, number, 1, 0)
		pipe.Incr(ctx, number)
		return nil
	}))
	check.Same(answers[1].(*redis.IntCmd).Val(), 2)
	err := client.Watch(ctx, func(tx *redis.Tx) error {
		check.Fine(client.Incr(ctx, number).Err())
		_, err := tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			return pipe.Set(ctx, number, 9, 0).Err()
		})
		return err
	}, number)
	check.That(errors.Is(err, redis.TxFailedErr), "a watched key changed and nobody said so: %v", err)
	check.Same(check.Value(client.Get(ctx, number).Int()), 3)
}

func scripts(ctx context.Context, client *redis.Client) {
	err := client.EvalSha(ctx, "ffffffffffffffffffffffffffffffffffffffff", nil).Err()
	check.That(err != nil && err.Error() == "NOSCRIPT No matching script. Please use EVAL.", "got %v", err)
	keys := make([]string, 102)
	for i := range keys {
		keys[i] = strconv.Itoa(i)
	}
	check.Same(check.Value(redis.NewScript("return #KEYS + ARGV[1]").Run(ctx, client, keys, 8).Int()), 110)
}

// The library's own way to count: whoever finds the key changed tries again.
func watches(ctx context.Context, client *redis.Client, prefix string) {
	counter := prefix + ":watched"
	var tasks sync.WaitGroup
	for range 8 {
		tasks.Go(func() {
			for done := 0; done < 5; {
				err := client.Watch(ctx, func(tx *redis.Tx) error {
					value, err := tx.Get(ctx, counter).Int()
					if err != nil && !errors.Is(err, redis.Nil) {
						return err
					}
					_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
						return pipe.Set(ctx, counter, value+1, 0).Err()
					})
					return err
				}, counter)
				if err == nil {
					done++
				} else {
					check.That(errors.Is(err, redis.TxFailedErr), "%v", err)
				}
			}
		})
	}
	tasks.Wait()
	check.Same(check.Value(client.Get(ctx, counter).Int()), 40)
}

// A subscription that outlives its connection, in both protocols, as Harbor's scanner has one.
func resubscribes(ctx context.Context) {
	prefix := os.Getenv("PREFIX")
	two, three := connect(2, os.Getenv("REDIS_PASSWORD")), connect(3, os.Getenv("REDIS_PASSWORD"))
	subscriptions := []*redis.PubSub{two.Subscribe(ctx, prefix+":news"), three.Subscribe(ctx, prefix+":news")}
	for _, subscription := range subscriptions {
		check.Value(subscription.Receive(ctx))
	}
	check.Same(check.Value(two.Publish(ctx, prefix+":news", "first").Result()), 2)
	for _, subscription := range subscriptions {
		check.Same((<-subscription.Channel()).Payload, "first")
	}
	check.Cut()
	for _, subscription := range subscriptions {
		for heard := false; !heard; {
			// Nobody may be there yet, and the publisher's connection was cut too.
			two.Publish(ctx, prefix+":news", "second")
			select {
			case message := <-subscription.Channel():
				check.Same(message.Payload, "second")
				heard = true
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				check.Fine(ctx.Err())
			}
		}
	}
}

func subscriptions(ctx context.Context, client *redis.Client, prefix string) {
	popped := make(chan []string)
	go func() { popped <- check.Value(client.BLPop(ctx, 10*time.Second, prefix+":queue").Result()) }()
	check.Fine(client.RPush(ctx, prefix+":queue", "job").Err())
	check.Same((<-popped)[1], "job")

	subscription := client.Subscribe(ctx, prefix+":news")
	check.Value(subscription.Receive(ctx))
	check.Same(check.Value(client.Publish(ctx, prefix+":news", check.Blob()).Result()), 1)
	message := check.Value(subscription.ReceiveMessage(ctx))
	check.Intact([]byte(message.Payload), check.Blob())
	check.Fine(subscription.Close())
}

func passwords(ctx context.Context, protocol int) {
	check.Fails(connect(protocol, "not this one").Ping(ctx).Err(), "WRONGPASS invalid username-password pair")
	if os.Getenv("REDIS_PASSWORD") != "" {
		check.Fails(connect(protocol, "").Ping(ctx).Err(), "NOAUTH")
	}
}
