package schedule

import "time"

// laneLocked is the lane of a key.
func (s *Schedule) laneLocked(k key) *lane {
	if k.less(s.mu.split) {
		return &s.mu.back
	}
	return &s.mu.live
}

// placeLocked puts a pending timer that is in no structure where it belongs.
func (s *Schedule) placeLocked(t *timer) {
	l := s.laneLocked(t.key)
	if !t.less(l.end) {
		s.outLocked(t)
	} else {
		t.place = inTree
		l.tree.ReplaceOrInsert(item{t.key, t})
		s.trimLocked(l)
	}
	if t.due < s.mu.sleeping {
		s.mu.sleeping = never
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// outLocked keeps a timer behind its lane's end in memory only if it has to be
// saved yet.
func (s *Schedule) outLocked(t *timer) {
	if t.stored() {
		s.forgetLocked(t)
		return
	}
	t.place = inFar
	s.mu.newFar.add(t)
}

// trimLocked moves the lane's end down until its tree is small enough.
func (s *Schedule) trimLocked(l *lane) {
	for l.tree.Len() > s.o.Near {
		it, _ := l.tree.DeleteMax()
		l.end = it.key
		s.outLocked(it.t)
	}
}

// liftLocked takes a timer out of the structure it is in.
func (s *Schedule) liftLocked(t *timer) {
	switch t.place {
	case inTree:
		s.laneLocked(t.key).tree.Delete(item{key: t.key})
	case inFar:
		s.mu.far.Delete(item{key: t.key})
	case isBusy:
		delete(s.mu.busy, t.key)
	}
	t.place = nowhere
}

// claimLocked makes a timer busy.
func (s *Schedule) claimLocked(t *timer, o *op) {
	s.liftLocked(t)
	t.place = isBusy
	s.mu.busy[t.key] = busy{t, o}
}

// returnLocked makes pending again what o was busy with, but for timers that
// have ended meanwhile.
func (s *Schedule) returnLocked(ts []*timer, o *op) {
	for _, t := range ts {
		if s.mu.busy[t.key] == (busy{t, o}) {
			s.liftLocked(t)
			s.placeLocked(t)
		}
	}
}

// shiftMost bounds how long shiftLocked holds the lock.
const shiftMost = 1024

// shiftLocked raises the split to what is due at now: from then on those timers
// are overdue ones. It moves at most shiftMost timers and says whether it is
// done.
func (s *Schedule) shiftLocked(now time.Time) bool {
	m := &s.mu
	target := firstAfter(now.UnixMilli())
	if !m.split.less(target) {
		return true
	}
	var moved []*timer
	split := target
	for {
		it, ok := m.live.tree.Min()
		if !ok || !it.less(target) {
			break
		}
		if len(moved) == shiftMost {
			split = it.key
			break
		}
		m.live.tree.DeleteMin()
		moved = append(moved, it.t)
	}
	// Where the back lane was whole up to the split, it is now whole as far as
	// the live one was.
	if m.back.end == m.split {
		m.back.end = minOf(split, m.live.end)
	}
	m.split = split
	if m.live.end.less(split) {
		m.live.end = split
	}
	for _, t := range moved {
		s.placeLocked(t)
	}
	return split == target
}

// lowerLocked follows a clock that was set back: what is not due any more is not
// overdue. The lanes are emptied and loaded anew.
func (s *Schedule) lowerLocked(now time.Time) {
	m := &s.mu
	floor := s.floorLocked()
	for _, l := range []*lane{&m.back, &m.live} {
		old := l.tree
		l.tree = newTree()
		old.Ascend(func(it item) bool {
			it.t.place = nowhere
			s.outLocked(it.t)
			return true
		})
	}
	m.split = firstAfter(now.UnixMilli())
	m.back.end = minOf(floor, m.split)
	m.live.end = m.split
	if m.split.less(floor) {
		m.live.end = floor
	}
}

// floorLocked is a key that no pending timer is below. Those in far lie behind
// their lane's end.
func (s *Schedule) floorLocked() key {
	m := &s.mu
	low := m.back.end
	if it, ok := m.back.tree.Min(); ok {
		low = it.key
	} else if m.back.end == m.split {
		low = m.live.end
		if it, ok := m.live.tree.Min(); ok {
			low = it.key
		}
	}
	for k := range m.busy {
		low = minOf(low, k)
	}
	return low
}
