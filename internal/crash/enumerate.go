package crash

import "iter"

// Enumerate returns the images of every combination of choices that a power cut
// now has: how many length changes of each file, how many stores of each page,
// how many changes of each name. Torn sectors and garbage are left to PowerCut.
// It ends after limit images; the last one's Complete tells whether there were
// more. The Sim must not change meanwhile.
func (s *Sim) Enumerate(limit int) iter.Seq[*Sim] {
	return func(yield func(*Sim) bool) {
		var p picker
		p.mode = enumerated
		for i := range limit {
			p.next = 0
			s.mu.Lock()
			c := s.cut(enumerated, uint64(i), &p)
			s.mu.Unlock()
			p.digits, p.bases = p.digits[:p.next], p.bases[:p.next]
			more := p.advance()
			c.complete = !more
			if !yield(c) || !more {
				return
			}
		}
	}
}

// Complete says that this image is the last of its enumeration.
func (s *Sim) Complete() bool { return s.complete }

// advance counts up, last digit first. What a later digit may choose from
// depends on the earlier ones, so the digits behind the one that moved are asked
// for anew.
func (p *picker) advance() bool {
	for i := len(p.digits) - 1; i >= 0; i-- {
		if p.digits[i]+1 < p.bases[i] {
			p.digits[i]++
			p.digits, p.bases = p.digits[:i+1], p.bases[:i+1]
			return true
		}
	}
	return false
}
