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
	for _, protocol := range []int{2, 3} {
		prefix := fmt.Sprintf("%s:%d", os.Getenv("PREFIX"), protocol)
		client := connect(protocol, os.Getenv("REDIS_PASSWORD"))
		values(ctx, client, prefix)
		pipelines(ctx, client, prefix)
		scripts(ctx, client)
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
