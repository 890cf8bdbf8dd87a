package main

import (
	"slices"
	"time"

	"github.com/embermq/embermq/bench/measure"
	"github.com/embermq/embermq/message"
)

// Subjects that occur in many rows.
const (
	ember     = "embermq"
	pwrite    = "pwrite"
	gathered  = "gathered"
	ideal     = "ideal"
	fdatasync = "pwrite+fdatasync"
)

// work says which rows a run has and how large they are.
type work struct {
	puts, batches []putRow
	drain         int // messages
	drainCold     bool
	rates         []int // messages a second
	paced         time.Duration
	consumers     []int
	queues        []int
	queuesFor     time.Duration
	checkpoints   int64
	zipf          int // queues; 0 for none
	indexed       []int
	dedupe        int // keys that the window may hold; 0 for no row
	timers        int
	transactions  []int // producers
	reopen        []reopenRow
	between       time.Duration // at least this long from the start of a process to its kill
	busy          []int         // goroutines of the host
	footprint     footprint
	stops         int // samples of stopping the world
	rolled        int // messages around rolls
	backlog       int // messages; 0 for none
}

// putRow is one way of putting.
type putRow struct {
	size, producers int
	durability      message.Durability
}

func workOf(s measure.Scale) work {
	inCache, onDisk := message.InCache, message.OnDisk
	w := work{
		puts: []putRow{
			{100, 1, inCache}, {1 << 10, 1, inCache}, {1 << 10, 8, inCache}, {1 << 10, 1, onDisk}, {1 << 10, 8, onDisk}, {1 << 10, 64, onDisk},
		},
		batches:      []putRow{{100, 1, inCache}, {1 << 10, 1, inCache}},
		drain:        50_000,
		rates:        []int{20_000},
		paced:        400 * time.Millisecond,
		queues:       []int{10_000},
		queuesFor:    time.Second / 2,
		checkpoints:  1,
		transactions: []int{64},
		reopen:       []reopenRow{{messages: 100_000, size: 1 << 10, kill: true}},
		between:      300 * time.Millisecond,
		busy:         []int{16},
		stops:        200,
		rolled:       20_000,
	}
	if s == measure.Quick {
		return w
	}
	w.puts, w.batches = allPuts(), allPuts()
	w.drain = 1_000_000
	w.rates = []int{1000, 20_000, 100_000}
	w.paced = 2 * time.Second
	w.consumers = []int{1, 8}
	w.queues = []int{1, 100, 10_000}
	w.queuesFor, w.checkpoints = time.Second, 3
	w.indexed = []int{100, 1 << 10}
	w.dedupe = 10_000_000
	w.timers = 20_000
	w.transactions = []int{1, 64}
	w.reopen = nil
	for _, r := range []reopenRow{{messages: 1_000_000, size: 1 << 10}, {messages: 5_000_000, size: 100}} {
		closed, killed := r, r
		killed.kill = true
		w.reopen = append(w.reopen, closed, killed)
	}
	w.between = 500 * time.Millisecond
	w.busy = []int{1, 4, 16}
	w.footprint = footprint{messages: 500_000, queues: 10_000}
	w.stops, w.rolled = 1000, 100_000
	if s == measure.Full {
		w.drainCold = true
		w.queues = append(w.queues, 100_000)
		w.queuesFor = 30 * time.Second
		w.zipf = 100_000
		cold := reopenRow{messages: 1_000_000, size: 1 << 10, kill: true, cold: true}
		w.reopen = append(w.reopen, cold, reopenRow{messages: 50_000_000, size: 100, kill: true},
			reopenRow{messages: 50_000_000, size: 100, kill: true, cold: true},
			reopenRow{messages: 1_000_000, size: 100, kill: true, queues: 100_000})
		w.backlog = 100_000_000
	}
	return w
}

func allPuts() (rows []putRow) {
	for _, size := range []int{100, 1 << 10, 16 << 10} {
		for _, producers := range []int{1, 8, 64} {
			for _, d := range []message.Durability{message.InCache, message.OnDisk} {
				rows = append(rows, putRow{size, producers, d})
			}
		}
	}
	return rows
}

// experiments are all rows of a run in the order of its table.
func experiments(w work) ([]measure.Experiment, error) {
	var es []measure.Experiment
	for _, build := range []func(work) ([]measure.Experiment, error){
		raw, puts, drains, latencies, consumers, queues, indexes, dedupes, timers, transactions, reopens, footprints, hosts, backlogs,
	} {
		some, err := build(w)
		if err != nil {
			return nil, err
		}
		es = slices.Concat(es, some)
	}
	return es, nil
}

// row is an experiment with one figure.
func row(workload, unit string, subjects ...measure.Subject) measure.Experiment {
	return measure.Experiment{Metrics: []measure.Metric{{Workload: workload, Unit: unit}}, Subjects: subjects}
}

// one makes the Run of a subject with one figure.
func one(f func(t measure.Turn) (float64, error)) func(t measure.Turn) ([]float64, error) {
	return func(t measure.Turn) ([]float64, error) {
		v, err := f(t)
		return []float64{v}, err
	}
}
