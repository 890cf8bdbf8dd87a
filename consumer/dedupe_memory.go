package consumer

import (
	"context"
	"sync"
	"time"

	"github.com/embermq/embermq/internal/clock"
)

// Defaults of DedupeOptions.
const (
	DefaultDedupeWindow = 10 * time.Minute
	DefaultDedupeMax    = 1 << 20
)

// DedupeOptions say what a Deduper remembers.
type DedupeOptions struct {
	// Window is how long a handled message is remembered; 10 minutes if zero.
	Window time.Duration
	// Max is how many are remembered at most, the latest; 1,048,576 if zero.
	// Each takes about 100 bytes beside its key.
	Max int
	// Key names a message among its copies; DedupeKey if nil. It is called by
	// several goroutines.
	Key func(*Delivery) string
	// Clock replaces the time. Its type is internal: it serves the tests of this
	// module.
	Clock clock.Clock
}

func (o *DedupeOptions) normalise() {
	if o.Window <= 0 {
		o.Window = DefaultDedupeWindow
	}
	if o.Max <= 0 {
		o.Max = DefaultDedupeMax
	}
	if o.Key == nil {
		o.Key = DedupeKey
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
}

// DedupeInMemory remembers in memory, for as long as the process runs. Consumers
// that share it recognise each other's messages if they are of one group.
func DedupeInMemory(o DedupeOptions) Deduper { return newMemory(o) }

// memory is what was handled lately, by group and key.
//
// Invariant: known has exactly the keys of order from first on, as handled, and
// the keys in flight besides.
type memory struct {
	o DedupeOptions

	mu    sync.Mutex
	known map[dedupeID]Known
	order []remembered // oldest first
	first int          // what lies before was forgotten
}

type dedupeID struct{ group, key string }

type remembered struct {
	id dedupeID
	at time.Time
}

func newMemory(o DedupeOptions) *memory {
	o.normalise()
	return &memory{o: o, known: make(map[dedupeID]Known)}
}

func (m *memory) id(groupName string, d *Delivery) dedupeID {
	return dedupeID{groupName, m.o.Key(d)}
}

// Begin is Deduper.Begin.
func (m *memory) Begin(_ context.Context, groupName string, d *Delivery) (Known, error) {
	id := m.id(groupName, d)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgetLocked()
	known, ok := m.known[id]
	if !ok {
		m.known[cloneID(id)] = InFlight
		return Fresh, nil
	}
	return known, nil
}

// Done is Deduper.Done.
func (m *memory) Done(_ context.Context, groupName string, d *Delivery) error {
	m.remember(cloneID(m.id(groupName, d)), m.o.Clock.Now())
	return nil
}

// Fail is Deduper.Fail.
func (m *memory) Fail(groupName string, d *Delivery) {
	id := m.id(groupName, d)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[id] == InFlight {
		delete(m.known, id)
	}
}

func (m *memory) remember(id dedupeID, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[id] != Handled {
		m.known[id] = Handled
		m.order = append(m.order, remembered{id, at})
	}
	m.forgetLocked()
}

// forgetLocked drops what is too old or too much.
func (m *memory) forgetLocked() {
	limit := m.o.Clock.Now().Add(-m.o.Window)
	for m.first < len(m.order) && (len(m.order)-m.first > m.o.Max || m.order[m.first].at.Before(limit)) {
		delete(m.known, m.order[m.first].id)
		m.order[m.first] = remembered{}
		m.first++
	}
	if m.first > len(m.order)/2 {
		m.order = append(m.order[:0], m.order[m.first:]...)
		clear(m.order[len(m.order):cap(m.order)])
		m.first = 0
	}
}
