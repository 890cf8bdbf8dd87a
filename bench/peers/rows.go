package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/embermq/embermq/bench/measure"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// What EmberMQ does in the rows that it shares with RocketMQ only.

// emberQueues puts to so many queues in turn.
func emberQueues(t measure.Turn, queues int) (v float64, err error) {
	s, err := store.Open(filepath.Join(t.Dir, "store"), store.WithDurability(message.InCache))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ms := make([]*message.Message, queues)
	for i := range ms {
		topic := fmt.Sprint("topic-", i%10)
		if i < 10 {
			if err := s.CreateTopic(context.Background(), store.Topic{Name: topic, WriteQueues: (queues + 9) / 10}); err != nil {
				return 0, err
			}
		}
		ms[i] = &message.Message{Topic: topic, QueueID: int32(i / 10), Body: make([]byte, 1<<10)}
	}
	n := 0
	return measure.Produce(1, 4*t.For, 4*t.Bytes/1024, func(int) (func() error, error) {
		return func() error {
			n++
			_, err := s.Put(context.Background(), ms[n%queues])
			return err
		}, nil
	})
}

// emberLatency goes from when a put was due to when a reader that follows has it.
func emberLatency(t measure.Turn, perSecond int, d time.Duration) (vs []float64, err error) {
	s, err := store.Open(filepath.Join(t.Dir, "store"), store.WithDurability(message.InCache))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), d+wait)
	defer cancel()
	if err := s.CreateTopic(ctx, store.Topic{Name: "orders"}); err != nil {
		return nil, err
	}
	n := int(d / (time.Second / time.Duration(perSecond)))
	l, zero := measure.NewLatencies(), time.Now()
	read := make(chan error, 1)
	go func() {
		seen := 0
		for r, err := range s.Follow(ctx, message.Queue{Topic: "orders"}, 0, nil) {
			if err != nil {
				read <- err
				return
			}
			l.Add(time.Since(zero) - time.Duration(binary.LittleEndian.Uint64(r.Body())))
			if seen++; seen == n {
				break
			}
		}
		read <- nil
	}()
	m := &message.Message{Topic: "orders", Body: make([]byte, 1<<10)}
	_, err = measure.Pace(perSecond, d, func(due time.Time) error {
		binary.LittleEndian.PutUint64(m.Body, uint64(due.Sub(zero)))
		_, err := s.Put(ctx, m)
		return err
	})
	if err != nil {
		cancel()
	}
	err = errors.Join(err, <-read)
	return []float64{l.Micros(50), l.Micros(99), l.Micros(99.9)}, err
}

// childVariable names the folder of a store that a child process fills and then
// leaves to be killed.
const childVariable = "EMBERMQ_PEERS_CHILD"

// childMain fills a store when this process is a child, says so, and waits.
func childMain() bool {
	dir := os.Getenv(childVariable)
	if dir == "" {
		return false
	}
	s, err := store.Open(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var n int
	if _, err := fmt.Scan(&n); err != nil {
		os.Exit(1)
	}
	put, _ := emberPeer{s}.putter()
	bodies := make([][]byte, 1000)
	for i := range bodies {
		bodies[i] = make([]byte, 1<<10)
	}
	for range n / len(bodies) {
		if err := put(bodies...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fmt.Println("full")
	select {}
}

// emberReopen opens a store whose process was killed, after n messages on disk.
func emberReopen(t measure.Turn, n int) (ms float64, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	dir := filepath.Join(t.Dir, "store")
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childVariable+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	fmt.Fprintln(in, n)
	var full string
	_, err = fmt.Fscan(out, &full)
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed, and says so
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	s, err := store.Open(dir)
	if err != nil {
		return 0, err
	}
	ms = float64(time.Since(begun).Microseconds()) / 1e3
	return ms, s.Close()
}
