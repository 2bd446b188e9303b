package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// probing is how long each rate is measured, by so many callers at a time.
	probing = 4 * time.Second
	callers = 64
)

// servers starts n NATS servers in this process, a cluster where there are several, and returns their addresses.
func servers(dir string, n int) (urls []string, stop func(), err error) {
	ports := make([]int, 2*n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		defer l.Close()
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	var all []*server.Server
	stop = func() {
		for _, s := range all {
			s.Shutdown()
			s.WaitForShutdown()
		}
	}
	for i := range n {
		o := &server.Options{ServerName: fmt.Sprintf("n%d", i), Host: "127.0.0.1", Port: ports[i], JetStream: true, StoreDir: filepath.Join(dir, fmt.Sprint(n, i)), NoSigs: true, NoLog: true}
		if n > 1 {
			o.Cluster = server.ClusterOpts{Name: "rates", Host: "127.0.0.1", Port: ports[n+i]}
			for k := range n {
				o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[n+k])})
			}
		}
		s, err := server.NewServer(o)
		if err != nil {
			stop()
			return nil, nil, err
		}
		all = append(all, s)
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
	}
	for _, l := range all {
		l.Start()
	}
	for _, s := range all {
		if !s.ReadyForConnections(20 * time.Second) {
			stop()
			return nil, nil, fmt.Errorf("NATS server %s does not start", s.Name())
		}
	}
	return urls, stop, nil
}

// measureQueue measures what a queue of n servers, all on this machine, carries a second.
func measureQueue(ctx context.Context, n int) (r rates, err error) {
	dir, err := os.MkdirTemp("", "queue")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	urls, stop, err := servers(dir, n)
	if err != nil {
		return r, err
	}
	defer stop()
	nc, err := nats.Connect(urls[0], nats.MaxReconnects(-1))
	if err != nil {
		return r, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return r, err
	}
	var stream jetstream.Stream
	for try := 0; ; try++ { // until the cluster has a leader
		stream, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "W", Subjects: []string{"w.>"}, Retention: jetstream.WorkQueuePolicy, Replicas: n})
		if err == nil || try == 40 {
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	if err != nil {
		return r, err
	}
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "K", Replicas: n})
	if err != nil {
		return r, err
	}
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "c", FilterSubject: "w.a.*", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 10_000})
	if err != nil {
		return r, err
	}
	small := make([]byte, 700) // about a record
	measures := map[station]func(k int64) error{
		messages: func(k int64) error {
			_, err := js.Publish(ctx, fmt.Sprintf("w.b.%d", k), small[:100])
			return err
		},
		writes:   func(k int64) error { _, err := kv.Put(ctx, fmt.Sprint(k%10_000), small); return err },
		reads:    func(k int64) error { _, err := kv.Get(ctx, fmt.Sprint(k%1000)); return err },
		requests: func(int64) error { b, err := consumer.FetchNoWait(1); <-b.Messages(); return err },
	}
	for _, s := range []station{messages, writes, reads, requests} {
		if r.carries[s], err = perSecond(measures[s]); err != nil {
			return r, fmt.Errorf("%s: %w", stationNames[s], err)
		}
	}
	return r, nil
}

// perSecond calls f from several goroutines for a while.
func perSecond(f func(k int64) error) (float64, error) {
	var count atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	began := time.Now()
	for range callers {
		wg.Go(func() {
			for time.Since(began) < probing && failed.Load() == nil {
				if err := f(count.Add(1)); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(count.Load()) / time.Since(began).Seconds(), nil
}
