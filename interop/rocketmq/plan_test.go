package rocketmq

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"

	"github.com/embermq/embermq/interop/rocketmq/oracle"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// plan says how one generated store is made. It is what a child process gets to
// know about it.
type plan struct {
	Number    int
	Seed      uint64
	Dir       string
	Features  features
	Segment   int64
	QueueFile int64
	Slots     int64
	Entries   int64
	Messages  int
}

const (
	shortHost = "10.20.30.40:10911"
	longHost  = "[2001:db8::ab:cd]:10911"
)

// newPlan draws the features from allowed, each with probability one half.
func newPlan(number int, dir string, allowed features, salt uint64) plan {
	seed := *seedFlag<<32 + salt<<24 + uint64(number)
	r := rand.New(rand.NewPCG(seed, 0))
	p := plan{Number: number, Seed: seed, Dir: filepath.Join(dir, fmt.Sprintf("store-%03d", number)), Features: features(r.Uint32()) & allowed}
	if p.Features.has(deletedTopic) && r.IntN(3) > 0 {
		p.Features &^= deletedTopic // Java sees such topics in its own way: most stores do without
	}
	if p.Features.has(hugeBodies) && r.IntN(3) > 0 {
		p.Features &^= hugeBodies // they take their time
	}
	for _, e := range exclusive {
		if p.Features.has(e.a) {
			p.Features &^= e.b
		}
	}
	p.Segment = []int64{64 << 10, 100_000, 1 << 20}[r.IntN(3)]
	if p.Features.has(manySegments | headDeleted) {
		p.Segment = []int64{5000, 8192, 16 << 10}[r.IntN(3)]
	}
	if p.Features.has(largeBodies) {
		p.Segment = max(p.Segment, 100_000)
	}
	if p.Features.has(hugeBodies) {
		p.Segment = 5 << 20
	}
	p.QueueFile = 6000
	if p.Features.has(manyQueueFiles) {
		p.QueueFile = 200
	}
	p.Slots, p.Entries = int64(20+r.IntN(100)), int64(50+r.IntN(400))
	p.Messages = 40 + r.IntN(120)
	if p.Features.has(manyQueueFiles) {
		p.Messages += 60
	}
	return p
}

func (p plan) String() string {
	return fmt.Sprintf("store %d, seed %d, segment %d, queue file %d: %v", p.Number, p.Seed, p.Segment, p.QueueFile, p.Features)
}

// random returns the source of the messages.
func (p plan) random() *rand.Rand { return rand.New(rand.NewPCG(p.Seed, 1)) }

func (p plan) host() string {
	if p.Features.has(ipv6Host) {
		return longHost
	}
	return shortHost
}

// topics are the names that the plan's messages go to.
func (p plan) topics() []string {
	names := []string{"orders", "a_b-C%d|e"}
	if p.Features.has(longTopics) {
		names = append(names, "%RETRY%"+strings.Repeat("g", 130+p.Number%100))
	}
	return names
}

// config opens the directory in Java with the plan's sizes.
func (p plan) config() oracle.Config {
	c := oracle.Config{Dir: p.Dir, Segment: p.Segment, QueueFile: p.QueueFile, Slots: p.Slots, Entries: p.Entries}
	if p.Features.has(hugeBodies) {
		c.MaxBody = hugeBody
	}
	return c
}

// options open the directory with our store, with the plan's sizes.
func (p plan) options() []store.Option {
	return []store.Option{store.WithSegmentSize(p.Segment), store.WithQueueFileSize(p.QueueFile), store.WithIndexSizes(p.Slots, p.Entries)}
}

// hugeBody is the largest body that both take unless they are told otherwise.
const hugeBody = 4 << 20

// huge are the messages of a plan with huge bodies.
func (p plan) huge(r *rand.Rand) (ms []*message.Message) {
	if !p.Features.has(hugeBodies) {
		return nil
	}
	for _, size := range []int{hugeBody, 1<<20 + r.IntN(3<<20)} {
		m := p.next(r)
		m.Body, m.Encoding = bytesOf(r, size), message.None
		ms = append(ms, m)
	}
	return ms
}

// next draws a message for one of the plan's queues.
func (p plan) next(r *rand.Rand) *message.Message {
	topics := p.topics()
	m := randomMessage(r, topics[r.IntN(len(topics))], p.Features)
	m.QueueID = int32(r.IntN(4))
	return m
}
