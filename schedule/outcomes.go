package schedule

// Outcome is what Cancel and Reschedule answer.
type Outcome uint8

const (
	// Unknown: no timer of this id is pending, and none is remembered.
	Unknown Outcome = iota
	// Cancelled: the message will never be delivered.
	Cancelled
	// Delivered: the message is in its queue.
	Delivered
	// Rescheduled: the message will be delivered at the new time.
	Rescheduled
)

// String returns the outcome in words.
func (o Outcome) String() string {
	switch o {
	case Cancelled:
		return "cancelled"
	case Delivered:
		return "already delivered"
	case Rescheduled:
		return "rescheduled"
	}
	return "unknown"
}

// outcomes remembers how the last timers ended: so many and no more.
type outcomes struct {
	ring []ident
	next int
	how  map[ident]remembered
}

type remembered struct {
	at  int // index in ring; an older place of the same id does not count
	how Outcome
}

func newOutcomes(n int) outcomes {
	return outcomes{ring: make([]ident, 0, min(n, 64)), how: make(map[ident]remembered)}
}

func (o *outcomes) add(i ident, how Outcome, most int) {
	if len(o.ring) < most {
		o.ring = append(o.ring, i)
		o.next = len(o.ring) - 1
	} else {
		o.next = (o.next + 1) % most
		if old := o.ring[o.next]; o.how[old].at == o.next {
			delete(o.how, old)
		}
		o.ring[o.next] = i
	}
	o.how[i] = remembered{o.next, how}
}

func (o *outcomes) get(i ident) Outcome { return o.how[i].how }
