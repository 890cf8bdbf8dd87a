package schedule

// newcomers are timers that a structure in memory has yet to take. Ordering and
// naming cost more than everything else about a new timer, and most timers leave
// memory before anybody asks for them in order or by name: a save takes them.
// So they are listed here first, and taken over when somebody does ask.
type newcomers struct {
	ts []*timer
	// mark is set in every timer that is listed; wants says whether one that was
	// listed still belongs into the structure.
	mark  uint8
	wants func(*timer) bool
}

// add lists a timer unless it is listed.
func (n *newcomers) add(t *timer) {
	if t.marks&n.mark != 0 {
		return
	}
	if len(n.ts) == cap(n.ts) {
		n.compact()
	}
	t.marks |= n.mark
	n.ts = append(n.ts, t)
}

// compact drops those that have gone meanwhile, and makes room for as many as are
// left, so that the next time is far enough away.
func (n *newcomers) compact() {
	kept := n.ts[:0]
	for _, t := range n.ts {
		if n.wants(t) {
			kept = append(kept, t)
		} else {
			t.marks &^= n.mark
		}
	}
	clear(n.ts[len(kept):])
	if n.ts = kept; 2*len(kept) > cap(kept) {
		n.ts = append(make([]*timer, 0, 2*len(kept)), kept...)
	}
}

// skip drops the first ones as far as they have gone.
func (n *newcomers) skip() {
	for len(n.ts) > 0 && !n.wants(n.ts[0]) {
		n.ts[0].marks &^= n.mark
		n.ts[0] = nil
		n.ts = n.ts[1:]
	}
}

// take empties the list into the structure.
func (n *newcomers) take(into func(*timer)) {
	for i, t := range n.ts {
		t.marks &^= n.mark
		if n.wants(t) {
			into(t)
		}
		n.ts[i] = nil
	}
	n.ts = n.ts[:0]
}
