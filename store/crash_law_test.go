package store_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/message"
)

// law watches the second law of the store: no byte that is derived from a record
// reaches a file before the record is synced. It sees every write and sync of a
// simulated machine, remembers which bytes of the log are not synced yet, and
// reads queue entries, the saved queues, committed offsets and marks out of what
// is written elsewhere.
type law struct {
	mu     sync.Mutex
	dirty  map[string][]span                // by segment file
	places map[message.Queue]map[int64]span // log bytes of each queue offset
	broken error
	seen   lawCounts
}

// lawCounts proves that the law was looked at.
type lawCounts struct {
	entries, images, offsets, marks, index, timers, halves, keys, settled int
}

type span struct{ from, to int64 } // of the log

func newLaw() *law {
	return &law{dirty: map[string][]span{}, places: map[message.Queue]map[int64]span{}}
}

// clone is what a copy of the machine begins with; after a power cut nothing of
// what is there is unsynced.
func (l *law) clone() *law {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := newLaw()
	for name, spans := range l.dirty {
		c.dirty[name] = slices.Clone(spans)
	}
	for q, m := range l.places {
		c.places[q] = maps.Clone(m)
	}
	c.broken = l.broken
	return c
}

func (l *law) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.dirty)
}

func (l *law) watch(sim *crash.Sim) {
	sim.OnWrite(l.write)
	sim.OnSync(l.sync)
}

// place tells where the record of a queue offset lies.
func (l *law) place(q message.Queue, offset, position, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.places[q] == nil {
		l.places[q] = map[int64]span{}
	}
	l.places[q][offset] = span{position, position + size}
}

// list is in the order of lawParts.
func (n lawCounts) list() []int {
	return []int{n.entries, n.images, n.offsets, n.marks, n.index, n.keys, n.timers, n.halves, n.settled}
}

// report adds what was looked at.
func (l *law) report(c *campaign) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, n := range l.seen.list() {
		c.add(lawParts[i], n)
	}
	l.seen = lawCounts{}
}

func (l *law) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

func (l *law) sync(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.dirty, name)
}

func (l *law) write(name string, off int64, p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	folder, _, _ := strings.Cut(name, "/")
	switch {
	case folder == "commitlog":
		l.log(name, off, p)
	case folder == "consumequeue":
		l.entries(name, off, p)
	case name == "ember/queues.tmp":
		l.image(p)
	case strings.HasPrefix(name, "ember/meta/"):
		l.meta(name, p)
	}
	l.derived(name, off, p)
}

func (l *law) log(name string, off int64, p []byte) {
	base, err := strconv.ParseInt(path.Base(name), 10, 64)
	n := len(bytes.TrimRight(p, "\x00"))
	if err != nil || n == 0 {
		return // zeros are the runway
	}
	l.dirty[name] = append(l.dirty[name], span{base + off, base + off + int64(n)})
}

// demand says that [from, to) of the log must be synced.
func (l *law) demand(s span, format string, args ...any) {
	for name, spans := range l.dirty {
		for _, d := range spans {
			if d.from < s.to && s.from < d.to && l.broken == nil {
				l.broken = fmt.Errorf("%s is written while %d..%d of %s is not synced", fmt.Sprintf(format, args...), d.from, d.to, name)
			}
		}
	}
}

func (l *law) entry(b []byte, where string) {
	position, size := int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint32(b[8:]))
	if size == 0 || position == 0 && size == 1<<31-1 {
		return // zeros, or a pre-blank entry
	}
	l.seen.entries++
	l.demand(span{position, position + size}, "%s: an entry of %d..%d", where, position, position+size)
}

func (l *law) entries(name string, off int64, p []byte) {
	if skip := (20 - off%20) % 20; skip < int64(len(p)) {
		for p = p[skip:]; len(p) >= 20; p = p[20:] {
			l.entry(p, name)
		}
	}
}

// image reads a saved image, as docs/format/queues.md describes it.
func (l *law) image(p []byte) {
	if len(p) < 40 || string(p[:8]) != "EMBERQUE" {
		return
	}
	mark := int64(binary.BigEndian.Uint64(p[24:]))
	l.seen.images++
	l.demand(span{0, mark}, "the saved queues with mark %d", mark)
	for p = p[40:]; len(p) >= 36 && p[0] == 1; {
		runs := binary.BigEndian.Uint32(p[32:])
		topic := int(binary.BigEndian.Uint16(p[2:]))
		if p = p[36:]; len(p) < topic {
			return
		}
		p = p[topic:]
		for range runs {
			if len(p) < 9 {
				return
			}
			kind, n := p[0], binary.BigEndian.Uint64(p[1:])
			if p = p[9:]; kind != 1 {
				continue
			}
			for ; n > 0 && len(p) >= 20; n-- {
				l.entry(p, "the saved queues")
				p = p[20:]
			}
		}
	}
}

var (
	metaOffset = []byte("p/o/")
	metaMark   = []byte("/mark")
)

// meta finds rows in what Pebble writes: the keys stand there as they are, each
// followed by the length of the value and the value. A row that is cut by a
// block's end is not seen.
func (l *law) meta(name string, p []byte) {
	if !strings.HasSuffix(name, ".log") {
		return // tables are compressed and come after the log
	}
	for b := p; ; {
		i := bytes.Index(b, metaOffset)
		if i < 0 {
			break
		}
		b = b[i+len(metaOffset):]
		l.offset(b)
	}
	for b := p; ; {
		i := bytes.Index(b, metaMark)
		if i < 0 {
			break
		}
		if b = b[i+len(metaMark):]; len(b) > 12 && b[0] == 12 {
			l.seen.marks++
			mark := int64(binary.BigEndian.Uint64(b[1:]))
			l.demand(span{0, mark}, "a view's mark %d", mark)
		}
	}
}

// offset reads group\0topic\0queue:4, then the value's length and the value.
func (l *law) offset(b []byte) {
	group, b, ok := bytes.Cut(b, []byte{0})
	if !ok || len(group) > 120 {
		return
	}
	topic, b, ok := bytes.Cut(b, []byte{0})
	if !ok || len(topic) > 255 || len(b) < 4+1+9 || b[4] < 9 || b[4] >= 0x80 || b[5] != 1 && b[5] != 2 || len(b) < 5+int(b[4]) {
		return // not this, or too long to be told by one byte
	}
	q := message.Queue{Topic: string(topic), ID: int32(binary.BigEndian.Uint32(b))}
	offset := int64(binary.BigEndian.Uint64(b[6:]))
	l.seen.offsets++
	if s, ok := l.places[q][offset-1]; ok {
		l.demand(s, "offset %d of %s by group %s", offset, q, group)
	}
	if b[5] == 2 {
		l.settled(string(group), q, offset, b[14:5+int(b[4])])
	}
}
