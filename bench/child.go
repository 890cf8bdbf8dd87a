package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"

	"github.com/embermq/embermq/bench/measure"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// childVariable holds the task of a process that is killed, or whose memory is
// measured. This program starts itself for that.
const childVariable = "EMBERMQ_BENCH_CHILD"

// task is what a child does with a store.
type task struct {
	Dir            string
	Messages, Size int
	Queues         int
	// Forever goes on with batches, to disk, until the process is killed;
	// otherwise the child says how much memory it has and closes the store.
	Forever bool
}

// report is the one line that a child prints.
type report struct{ Anonymous int64 }

// childMain does the task of a child and reports whether this process is one.
func childMain() bool {
	text := os.Getenv(childVariable)
	if text == "" {
		return false
	}
	var t task
	err := json.Unmarshal([]byte(text), &t)
	if err == nil {
		err = t.do()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

func (t task) do() error {
	d := message.InCache
	if t.Forever {
		d = message.OnDisk
	}
	s, err := store.Open(t.Dir, store.WithDurability(d))
	if err != nil {
		return err
	}
	ms := make([]*message.Message, 1000)
	for i := range ms {
		ms[i] = measure.Message(fmt.Sprint("topic-", i%10), t.Size)
	}
	if t.Queues > 0 && t.Messages > 0 {
		if ms, err = toQueues(s, t.Queues, t.Size); err != nil {
			return err
		}
	}
	for at := 0; at < t.Messages; at += 1000 {
		from := at % len(ms)
		if _, err := s.PutBatch(context.Background(), ms[from:min(from+1000, len(ms))]); err != nil {
			return err
		}
	}
	debug.FreeOSMemory()
	var r report
	r.Anonymous, _ = measure.AnonymousBytes()
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	for t.Forever {
		if _, err := s.PutBatch(context.Background(), ms[:100]); err != nil {
			return err
		}
	}
	return s.Close()
}

// start starts a child and returns when it has reported.
func (t task) start() (*exec.Cmd, report, error) {
	var r report
	self, err := os.Executable()
	if err != nil {
		return nil, r, err
	}
	text, err := json.Marshal(t)
	if err != nil {
		return nil, r, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, r, err
	}
	if err := cmd.Start(); err != nil {
		return nil, r, err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, r, fmt.Errorf("child: %w: %s", err, stderr.String())
	}
	return cmd, r, nil
}

// kill ends a child as kill -9 does.
func kill(cmd *exec.Cmd) error {
	err := cmd.Process.Kill()
	_ = cmd.Wait() // it was killed, and says so
	return err
}
