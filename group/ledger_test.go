package group

import (
	"fmt"
	"sync"
	"time"
)

// ledger is what the members of a schedule say about themselves. It knows which
// handlers run without asking the coordinator, and judges the coordinator by it.
type ledger struct {
	s *schedule

	mu       sync.Mutex
	works    []*work // all there ever were
	running  map[slot][]*work
	by       map[Claim]*work
	finished map[*actor]bool
	doing    string // the schedule's step
	overlaps int
	begun    int
	problems []string
}

// work is the handlers of one claim.
type work struct {
	k       Claim
	slot    slot
	a       *actor
	asked   time.Time // when it was told to end; zero while it may run on
	fenced  bool      // by the schedule
	excused bool      // its member was taken out
	ended   bool      // its handlers ended
	invalid bool      // the claim was refused once
}

func newLedger(s *schedule) *ledger {
	return &ledger{s: s, running: make(map[slot][]*work), by: make(map[Claim]*work), finished: make(map[*actor]bool)}
}

func (l *ledger) during(step string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.doing = step
}

func (l *ledger) complainLocked(format string, args ...any) {
	l.problems = append(l.problems, l.doing+": "+fmt.Sprintf(format, args...))
}

func (l *ledger) complain(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.complainLocked(format, args...)
}

// late tells whether the coordinator may take the claim away although the
// handlers run: the limit has passed since the member was asked.
func (w *work) late(now time.Time) bool {
	return !w.asked.IsZero() && now.Sub(w.asked) >= modelLimit
}

// told notes what Next has said and returns what is to be released.
func (l *ledger) told(a *actor, ch Change) (release []Claim) {
	now := l.s.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range append(ch.Lost, ch.Revoked...) {
		w := l.by[k]
		if w == nil || w.a != a {
			l.complainLocked("%s was told of %s, which it does not have", a.id, k)
			continue
		}
		if w.asked.IsZero() {
			w.asked = now
		}
		release = append(release, k)
	}
	for _, k := range ch.Given {
		l.beginLocked(a, k, now)
	}
	return release
}

func (l *ledger) beginLocked(a *actor, k Claim, now time.Time) {
	w := &work{k: k, a: a, slot: slot{queue: k.Queue}}
	if l.s.mode != Clustering {
		w.slot.member = k.Member
	}
	if l.by[k] != nil {
		l.complainLocked("%s was given twice", k)
	}
	// A member that was taken out between Next's answer and now works under a
	// claim that is refused already.
	w.excused = a.gone
	for _, o := range l.running[w.slot] {
		if w.excused {
			break
		}
		if !o.excused && !o.late(now) {
			l.overlaps++
			l.complainLocked("%s begins while %s runs", k, o.k)
		}
		if o.k.Generation >= k.Generation {
			l.complainLocked("%s is not newer than %s", k, o.k)
		}
	}
	l.begun++
	l.works = append(l.works, w)
	l.by[k] = w
	l.running[w.slot] = append(l.running[w.slot], w)
}

// finish ends the handlers of a claim.
func (l *ledger) finish(k Claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.by[k]
	w.ended = true
	kept := l.running[w.slot][:0]
	for _, o := range l.running[w.slot] {
		if o != w {
			kept = append(kept, o)
		}
	}
	l.running[w.slot] = kept
}

// excuse says that the member is about to be taken out: its handlers may be
// overtaken.
func (l *ledger) excuse(a *actor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.gone = true
	for _, w := range l.works {
		w.excused = w.excused || w.a == a
	}
}

func (l *ledger) fenceAll(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.works {
		w.fenced = true
		if w.asked.IsZero() {
			w.asked = now
		}
	}
}

func (l *ledger) draining(a *actor) (ks []Claim) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.works {
		if w.a == a && !w.ended && !w.asked.IsZero() {
			ks = append(ks, w.k)
		}
	}
	return ks
}

func (l *ledger) end(a *actor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finished[a] = true
	for _, w := range l.works {
		w.excused = w.excused || w.a == a
	}
}

func (l *ledger) ended(a *actor) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.finished[a]
}

// checkClaims asks for every claim there ever was. The coordinator is at rest.
func (l *ledger) checkClaims(h hub, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	valid := make(map[slot]*work)
	for _, w := range l.works {
		dead := w.ended || w.fenced || w.excused || w.late(now)
		if err := h.Valid(w.k); err != nil {
			w.invalid = true
			if !dead {
				l.complainLocked("%s is refused: %v", w.k, err)
			}
			continue
		}
		if dead {
			l.complainLocked("%s is valid although it is over", w.k)
		}
		if w.invalid {
			l.complainLocked("%s is valid again", w.k)
		}
		if o := valid[w.slot]; o != nil {
			l.complainLocked("%s and %s are both valid", o.k, w.k)
		}
		valid[w.slot] = w
	}
}

// checkHeld demands one holder for each slot, and none elsewhere.
func (l *ledger) checkHeld(wanted []slot, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	holders := make(map[slot]int)
	for _, w := range l.works {
		if !w.ended && !w.excused && !w.late(now) {
			holders[w.slot]++
		}
	}
	for _, s := range wanted {
		if holders[s] != 1 {
			l.complainLocked("%v has %d holders", s, holders[s])
		}
		delete(holders, s)
	}
	for s := range holders {
		l.complainLocked("%v is held and should not be", s)
	}
}
