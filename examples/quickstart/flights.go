package main

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"

	"github.com/embermq/embermq/message"
)

//go:embed flights-20k.json.gz
var flightsGz []byte

const (
	tagLate   = "late"   // more than 15 minutes, as the airlines count
	tagOnTime = "ontime" // all others
	// propSeq numbers the flights of one airport from 0.
	propSeq = "seq"
)

// flight is one line of the file and where it goes.
type flight struct {
	Origin string `json:"origin"`
	Delay  int    `json:"delay"`

	body  []byte // the line as it stands in the file
	queue int32  // by the airport, so that its flights stay in order
	seq   int    // number among the flights of this airport
}

func (f *flight) late() bool { return f.Delay > 15 }

func (f *flight) message() *message.Message {
	m := &message.Message{
		Topic:      topic,
		QueueID:    f.queue,
		Tag:        tagOnTime,
		Keys:       []string{f.Origin},
		Body:       f.body,
		Properties: map[string]string{propSeq: strconv.Itoa(f.seq)},
	}
	if f.late() {
		m.Tag = tagLate
	}
	return m
}

// plan is all flights in the order of the file, and the same for each queue:
// the flight with offset n of queue q must be byQueue[q][n].
type plan struct {
	flights  []*flight
	byQueue  [queues][]*flight
	airports int
}

func loadPlan() (*plan, error) {
	z, err := gzip.NewReader(bytes.NewReader(flightsGz))
	if err != nil {
		return nil, fmt.Errorf("flights: %w", err)
	}
	var lines []json.RawMessage
	if err := json.NewDecoder(z).Decode(&lines); err != nil {
		return nil, fmt.Errorf("flights: %w", err)
	}
	p := &plan{}
	seqs := make(map[string]int)
	for _, line := range lines {
		f := &flight{body: line}
		if err := json.Unmarshal(line, f); err != nil {
			return nil, fmt.Errorf("flights: %w", err)
		}
		h := fnv.New32a()
		h.Write([]byte(f.Origin))
		f.queue = int32(h.Sum32() % queues)
		f.seq = seqs[f.Origin]
		seqs[f.Origin]++
		p.flights = append(p.flights, f)
		p.byQueue[f.queue] = append(p.byQueue[f.queue], f)
	}
	p.airports = len(seqs)
	return p, nil
}

// from is what each queue's plan holds from an offset on.
func (p *plan) from(offsets [queues]int64) [queues][]*flight {
	rest := p.byQueue
	for q := range rest {
		rest[q] = rest[q][min(int(offsets[q]), len(rest[q])):]
	}
	return rest
}

// at is the flight that belongs to an offset, nil beyond the plan.
func (p *plan) at(q int32, offset int64) *flight {
	if f := p.byQueue[q]; offset >= 0 && offset < int64(len(f)) {
		return f[offset]
	}
	return nil
}
