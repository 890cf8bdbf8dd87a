package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/embermq/embermq/bench/measure"
	"github.com/embermq/embermq/store"
)

// reopenRow is a store that is opened again.
type reopenRow struct {
	messages, size, queues int
	kill, cold             bool
}

func (r reopenRow) name() string {
	count := fmt.Sprint(r.messages)
	if c, ok := strings.CutSuffix(count, "000000"); ok {
		count = c + "M"
	} else if c, ok := strings.CutSuffix(count, "000"); ok {
		count = c + "k"
	}
	name := "reopen/close/" + count
	if r.kill {
		name = "reopen/kill/" + count
	}
	if r.queues > 0 {
		name += fmt.Sprintf("/%dqueues", r.queues)
	}
	if r.cold {
		name += "/cold"
	}
	return name
}

// reopens is how long Open takes after a clean close, or after a kill somewhere
// between two checkpoints. The store keeps its messages from turn to turn.
func reopens(w work) (es []measure.Experiment, err error) {
	for _, r := range w.reopen {
		turn := 0
		var dir string
		e := row(r.name(), "ms", measure.Subject{Name: ember, Run: one(func(measure.Turn) (float64, error) {
			turn++
			return r.turn(dir, w.between, turn)
		})})
		e.Setup = func(shared string) (func() error, error) {
			dir = filepath.Join(shared, "store")
			cmd, _, err := task{Dir: dir, Messages: r.messages, Size: r.size, Queues: r.queues, Forever: true}.start()
			if err != nil {
				return nil, err
			}
			return func() error { return nil }, kill(cmd)
		}
		es = append(es, e)
	}
	return es, nil
}

func (r reopenRow) turn(dir string, between time.Duration, n int) (ms float64, err error) {
	if r.kill {
		cmd, _, err := task{Dir: dir, Size: r.size, Forever: true}.start()
		if err != nil {
			return 0, err
		}
		time.Sleep(between + between*time.Duration(n*37%100)/100) // somewhere between two checkpoints
		if err := kill(cmd); err != nil {
			return 0, err
		}
	} else {
		if _, err := open(dir); err != nil { // the last one was killed, or the pages may be cold
			return 0, err
		}
	}
	if r.cold {
		if err := measure.DropPages(dir); err != nil {
			return 0, err
		}
	}
	return open(dir)
}

// open opens and closes a store and tells how long the opening took.
func open(dir string) (ms float64, err error) {
	t0 := time.Now()
	s, err := store.Open(dir)
	ms = float64(time.Since(t0).Microseconds()) / 1e3
	if err != nil {
		return 0, err
	}
	return ms, s.Close()
}
