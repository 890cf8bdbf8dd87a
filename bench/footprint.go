package main

import (
	"fmt"
	"math"
	"path/filepath"

	"github.com/embermq/embermq/bench/measure"
	"github.com/embermq/embermq/internal/fs"
)

// footprint is how many messages, of 1 KiB, in how many queues are weighed.
type footprint struct{ messages, queues int }

// footprints weighs a store of its own process: memory that is not a file's, what
// lies on disk, and what the device was given to write, a message.
func footprints(w work) ([]measure.Experiment, error) {
	f := w.footprint
	if f.messages == 0 {
		return nil, nil
	}
	return []measure.Experiment{{
		Metrics: []measure.Metric{
			{Workload: fmt.Sprintf("memory/%dqueues", f.queues), Unit: "MiB"},
			{Workload: "disk/1KiB", Unit: "B/msg"},
			{Workload: "device/1KiB", Unit: "B/msg"},
		},
		Subjects: []measure.Subject{{Name: ember, Run: f.weigh}},
	}}, nil
}

func (f footprint) weigh(t measure.Turn) ([]float64, error) {
	dir := filepath.Join(t.Dir, "store")
	before, tells := measure.DeviceBytes(t.Dir)
	cmd, r, err := task{Dir: dir, Messages: f.messages, Size: 1 << 10, Queues: f.queues}.start()
	if err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		return nil, err
	}
	root, err := fs.OS(t.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	device := math.NaN()
	if root.SyncFS() == nil && tells {
		after, _ := measure.DeviceBytes(t.Dir)
		device = float64(after-before) / float64(f.messages)
	}
	blocks, err := measure.Blocks(dir)
	memory := float64(r.Anonymous) / (1 << 20)
	if r.Anonymous == 0 {
		memory = math.NaN()
	}
	return []float64{memory, float64(blocks) / float64(f.messages), device}, err
}
