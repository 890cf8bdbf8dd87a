package consumer

import (
	"cmp"
	"slices"
	"strings"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
)

// stage is how far an intake has come. It only rises.
type stage uint8

const (
	opening  stage = iota // where to begin is not known yet
	serving               // read and handled
	draining              // revoked: what runs may finish and be settled
	lost                  // nothing counts any more
	released
)

// intake is what a Push has of one queue under one claim. It is guarded by
// Push.mu, except that claim, q and retry never change.
type intake struct {
	claim group.Claim
	q     message.Queue
	retry bool // the group's retry topic

	stage  stage
	flight flight
	// settled are offsets beyond the start that are settled already; reading
	// passes them. attempts are the failed deliveries in place of unsettled ones.
	settled  []message.Range
	attempts map[int64]int

	free  fifo[*unit]      // ready, without order
	ready fifo[*line]      // lines whose first messages may be handled
	lines map[string]*line // where order is kept; only those that have messages
	// held are handled and not committed, under WithManualCommit.
	held []*unit

	running   int  // handler calls
	reading   bool // one at a time
	settling  bool // one at a time
	closing   bool // the last step before the release has begun
	flushing  bool // an alarm is set that settles what is due
	queued    bool // stands in Push.runnable
	readQueue bool // stands in Push.readable or Push.tails

	wantRead bool
	likely   bool // the next read finds something
	arrived  bool // something came while reading
	turn     int  // rises when a running read has become worthless
	stopped  error
	asleep   bool // reading rests after an error
	vs       []message.Verdict
}

// line is the messages of one key, or of the whole queue under PerQueue.
//
// Invariant: at most one handler call has messages of a line, and it has those
// with the lowest offsets.
type line struct {
	key     string
	waiting fifo[*unit]
	busy    bool // a handler has some, or the line is suspended
	queued  bool // stands in intake.ready
}

func newIntake(c group.Claim) *intake {
	return &intake{
		claim: c,
		q:     c.Queue,
		retry: strings.HasPrefix(c.Queue.Topic, message.PrefixRetry),
		lines: make(map[string]*line),
	}
}

func (in *intake) hasReady() bool { return in.free.len()+in.ready.len() > 0 }

// lineOf returns the line of a key, which is new if nothing of it is in hand.
func (in *intake) lineOf(key string) *line {
	l := in.lines[key]
	if l == nil {
		l = &line{key: key}
		in.lines[key] = l
	}
	return l
}

// offer makes a unit that has been read ready to be handled.
func (in *intake) offer(u *unit) {
	if u.line == nil {
		in.free.push(u)
		return
	}
	u.line.waiting.push(u)
	in.offerLine(u.line)
}

// offerLine puts a line among the ready ones if it may go on, and forgets it when
// nothing is left of it.
func (in *intake) offerLine(l *line) {
	switch {
	case l.busy || l.queued:
	case l.waiting.len() > 0:
		l.queued = true
		in.ready.push(l)
	default:
		delete(in.lines, l.key)
	}
}

// drop forgets what waits. It comes again to whoever has the queue next.
func (in *intake) drop() {
	in.free.clear()
	in.ready.clear()
	for _, l := range in.lines {
		l.waiting.clear()
		l.queued = false
	}
	in.held = nil
	in.turn++
}

// passed reports whether an offset is settled already.
func (in *intake) passed(offset int64) bool {
	i, _ := slices.BinarySearchFunc(in.settled, offset, func(r message.Range, at int64) int {
		return cmp.Compare(r.To, at+1)
	})
	return i < len(in.settled) && in.settled[i].From <= offset
}

// rollback forgets what was read from an offset on, but not what of it is settled.
func (in *intake) rollback(to int64) {
	for _, u := range in.flight.rewind(to) {
		in.settled = append(in.settled, message.Range{From: u.from, To: u.to})
	}
	slices.SortFunc(in.settled, func(a, b message.Range) int { return cmp.Compare(a.From, b.From) })
	in.drop()
}

// begin sets where reading starts.
func (in *intake) begin(at int64, st message.Standing) {
	in.flight = newFlight(at)
	in.settled = slices.Clone(st.Settled)
	in.attempts = st.Attempts
	in.stage = serving
	in.wantRead, in.likely = true, true
}

// failed counts one more failed delivery in place.
func (in *intake) failed(offset int64) {
	if in.attempts == nil {
		in.attempts = make(map[int64]int)
	}
	in.attempts[offset]++
}
