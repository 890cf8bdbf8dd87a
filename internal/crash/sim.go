package crash

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/embermq/embermq/internal/fs"
)

// ErrStopped is matched by every operation of a Sim whose process is dead.
var ErrStopped = errors.New("crash: the process is dead")

// Sim is one simulated machine. See the package comment.
type Sim struct {
	mu    sync.Mutex
	token uint64
	seed  uint64
	steps []step // how this image came about

	inodes []*inode // [0] is the root; nil is free
	seq    int64
	ops    int

	stopAt  int
	stopMid bool
	stopped bool
	forkAt  int
	onFork  func(died *Sim) (n int)

	capacity int64
	garbage  Garbage
	noMap    bool
	outcome  Outcome
	complete bool

	syncFaults []syncFault
	onWrite    func(name string, off int64, p []byte)
	onSync     func(name string)

	// What dies with the process.
	locks    map[int]bool
	mappings map[int][]*mapping
	handles  map[int]int // open files of each inode
	open     int
	removed  int // names taken away since the last collect

	// See Reuse and Free.
	reuse, take bool
	taken       []*page
	chunk       []byte
}

// step is one death on the way to an image.
type step struct {
	op   int
	mode Mode
	sub  uint64
}

var tokens atomic.Uint64

// New returns an empty disk. The seed decides how operations are halved by
// StopAfter and, with the sub-seeds, what power cuts keep.
func New(seed uint64) *Sim {
	s := &Sim{token: tokens.Add(1), seed: seed, garbage: GarbageRandom}
	s.inodes = []*inode{{own: s.token, dir: true, path: ".", links: 1}}
	return s
}

// FS returns the root of the disk.
func (s *Sim) FS() fs.FS { return &tree{s: s, dir: "."} }

// Name says how to make this image again: the seed, then for each death the
// number of operations before it, the mode and the sub-seed.
func (s *Sim) Name() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed=%d", s.seed)
	for _, st := range s.steps {
		fmt.Fprintf(&b, " op=%d:%v", st.op, st.mode)
		if st.mode != kill {
			fmt.Fprintf(&b, ":%d", st.sub)
		}
	}
	return b.String()
}

// Ops is the number of operations so far in this image's life that could change
// anything. Reads and opens of files that exist are not counted.
func (s *Sim) Ops() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ops
}

// StopAfter kills the process in its n-th operation (counted as Ops does, from
// 1; 0 means never): that one and all later ones of any kind return ErrStopped.
// The n-th is not done at all, or with mid it is half done: a write leaves a
// prefix of its bytes, a sync of the file some of its pages, other operations
// are done or not. What the seed and n decide is decided the same way again.
func (s *Sim) StopAfter(n int, mid bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopAt, s.stopMid = n, mid
}

// Stop kills the process now.
func (s *Sim) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

// Stopped says whether the process is dead.
func (s *Sim) Stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// OnWrite calls f before each WriteAt, and OnSync calls f after each good sync
// of a file (with SyncFS for every file), with the file's newest name. A nil f
// ends it. The calls run under the Sim's mutex: f must not use the Sim. Images do
// not inherit hooks.
func (s *Sim) OnWrite(f func(name string, off int64, p []byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onWrite = f
}

// OnSync is described at OnWrite.
func (s *Sim) OnSync(f func(name string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onSync = f
}

// SetMap switches Map on (as it is from the start) or off. A mapping costs a
// copy of the mapped bytes.
func (s *Sim) SetMap(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noMap = !on
}

// OpenFiles is the number of files and locks that were not closed.
func (s *Sim) OpenFiles() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// Kill returns the machine as the next process finds it after this one was
// killed: all that was written is in the cache, and nothing of it is any safer.
func (s *Sim) Kill() *Sim {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forkLocked(kill, 0)
}

// forkLocked returns a Sim that shares everything. Neither side owns a page
// afterwards, so each copies what it changes.
func (s *Sim) forkLocked(mode Mode, sub uint64) *Sim {
	s.token = tokens.Add(1)
	c := &Sim{
		token: tokens.Add(1), seed: s.seed, seq: s.seq,
		steps:    append(slices.Clip(s.steps), step{op: s.ops, mode: mode, sub: sub}),
		inodes:   slices.Clone(s.inodes),
		capacity: s.capacity, garbage: s.garbage, noMap: s.noMap,
		reuse: s.reuse, take: s.reuse,
	}
	return c
}

// edit returns an inode for changing.
func (s *Sim) edit(ino int) *inode {
	n := s.inodes[ino]
	if n.own != s.token {
		n = n.clone(s.token)
		s.inodes[ino] = n
	}
	return n
}

// add makes an inode.
func (s *Sim) add(n *inode) int {
	n.own = s.token
	s.inodes = append(s.inodes, n)
	return len(s.inodes) - 1
}

// collect frees the inodes that no name, in the cache, on the disk or between,
// and no open file leads to.
func (s *Sim) collect() {
	s.removed = 0
	live := make([]bool, len(s.inodes))
	var visit func(ino int)
	visit = func(ino int) {
		if ino == gone || live[ino] || s.inodes[ino] == nil {
			return
		}
		live[ino] = true
		n := s.inodes[ino]
		for _, e := range n.names {
			visit(e.ino)
		}
		for _, e := range n.diskNames {
			visit(e.ino)
		}
		for _, op := range n.pending {
			visit(op.ino)
		}
	}
	visit(0)
	for ino := range s.handles {
		visit(ino)
	}
	for ino, ok := range live {
		if !ok {
			s.inodes[ino] = nil
		}
	}
}

// begin counts an operation. With half the caller does half of it and then
// returns ErrStopped.
func (s *Sim) begin() (half bool, err error) {
	if s.stopped {
		return false, ErrStopped
	}
	if s.due() {
		s.forkBefore()
	}
	s.ops++
	if s.stopAt > 0 && s.ops >= s.stopAt {
		s.stopped = true
		if !s.stopMid {
			return false, ErrStopped
		}
		return true, nil
	}
	return false, nil
}

// halfRandom decides how an operation is halved.
func (s *Sim) halfRandom() *random {
	r := s.random(1 << 63)
	return &r
}

// random returns numbers that the seed, the way to this image, the operation and
// sub decide.
func (s *Sim) random(sub uint64) random {
	x := mix(s.seed + 1)
	for _, st := range s.steps {
		x = mix(x ^ st.sub + uint64(st.op)<<20 + uint64(st.mode)<<48)
	}
	return random(mix(x^uint64(s.ops)) ^ mix(sub+0x51ed27))
}

// random is splitmix64: small, fast and the same in every Go release.
type random uint64

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (r *random) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	return mix(uint64(*r))
}

// below returns a number in [0, n).
func (r *random) below(n int) int { return int(r.next() % uint64(n)) }

func (r *random) chance(p float64) bool { return float64(r.next()>>11)/(1<<53) < p }

func (r *random) coin() bool { return r.next()&1 == 0 }
