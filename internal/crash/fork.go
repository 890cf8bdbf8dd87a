package crash

import "hash/maphash"

// ForkAfter calls f in the n-th operation from now on (counted as Ops does, from
// 1; 0 means never) with the machine as it would be found if the process were
// killed there, while this one goes on. The operation is not done; of a write and
// of a sync of a file it may be the half, as with StopAfter. f says in the same
// way when it is to be called next. The calls run under the Sim's mutex: f must
// not use this Sim. Images do not inherit it.
func (s *Sim) ForkAfter(n int, f func(died *Sim) (n int)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onFork = f
	s.forkLater(s.ops, n)
}

func (s *Sim) forkLater(ops, n int) {
	if s.forkAt = 0; n > 0 {
		s.forkAt = ops + n
	}
}

// due says that the operation which begins is the one that ForkAfter names.
func (s *Sim) due() bool { return s.ops+1 == s.forkAt && !s.stopped }

// forkBefore calls f with the machine in front of the operation.
func (s *Sim) forkBefore() { s.forkLater(s.ops+1, s.onFork(s.forkLocked(kill, 0))) }

// forkWithin calls f with a machine on which half does half of the operation, on
// a copy of f's file, or not at all.
func (s *Sim) forkWithin(ino int, half func(f *file)) {
	c := s.forkLocked(kill, 0)
	if r := c.random(1 << 62); r.coin() {
		c.stopAt, c.stopMid = 1, true
		half(&file{s: c, ino: ino})
		c = c.Kill()
	}
	s.forkLater(s.ops+1, s.onFork(c))
}

var prints = maphash.MakeSeed()

// Print is a number that is equal, within this process, for machines whose files
// have the same names, lengths and bytes for a process that reads them.
func (s *Sim) Print() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.print(0, 0)
}

func (s *Sim) print(dir int, x uint64) uint64 {
	for _, e := range s.inodes[dir].names {
		x = mix(x ^ maphash.String(prints, e.name))
		n := s.inodes[e.ino]
		if n.dir {
			x = mix(s.print(e.ino, x) + 1)
			continue
		}
		x = mix(x ^ uint64(n.cache.size))
		for i := range n.cache.refs {
			r := &n.cache.refs[i]
			if r.p != nil && *r.p != (page{}) {
				x = mix(x ^ uint64(r.idx) ^ maphash.Bytes(prints, r.p[:]))
			}
		}
	}
	return x
}
