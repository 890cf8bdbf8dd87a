package fs

import (
	"errors"
	"io"
	"sync"
)

// Op is a kind of operation, or several or-ed together.
type Op uint32

// The operations that Faulty tells apart. Open is of a file that is there or
// asked for without Create; Create is with it.
const (
	OpOpen Op = 1 << iota
	OpCreate
	OpRead
	OpWrite
	OpTruncate
	OpPreallocate
	OpSyncData
	OpSync
	OpSyncDir
	OpSyncFS
	OpRename
	OpLink
	OpRemove
	OpMkdir
	OpList
	OpStat
	OpSize
	OpNextData
	OpMap
	OpPopulate
	OpLock
	OpUsage
	OpClose // of files; the file is closed all the same

	OpAny Op = 1<<iota - 1
)

// ErrInjected is the error of a Fault that names none.
var ErrInjected = errors.New("fs: injected fault")

// Fault says which operation fails and how.
type Fault struct {
	Ops   Op     // zero: any
	Name  string // pattern, see Match; names are relative to the outermost Faulty
	After int    // so many matching operations succeed first
	Times int    // so many fail; zero: one; negative: all from then on
	Err   error  // zero: ErrInjected
	// Short is how many bytes a failing write writes before it fails. The count
	// it returns is 0 all the same, as os.File's is.
	Short int
}

// Counts is what has been done through a Faulty.
type Counts struct {
	Ops          map[Op]int
	BytesRead    int64
	BytesWritten int64
	OpenFiles    int // files and locks that were not closed
	Mappings     int // mappings that were not closed
}

// Faulty passes everything on to another FS, counts it, and fails what it is
// told to fail before it is passed on. Sub returns a *Faulty with the same state.
type Faulty struct {
	inner  FS
	prefix string // "" or "dir/"
	st     *faultState
}

type faultState struct {
	mu     sync.Mutex
	faults []*Fault
	fired  int
	counts Counts
	open   map[*faultyFile]struct{}
	before func(op Op, name string) error
}

// NewFaulty wraps fsys.
func NewFaulty(fsys FS) *Faulty {
	return &Faulty{inner: fsys, st: &faultState{
		counts: Counts{Ops: map[Op]int{}},
		open:   map[*faultyFile]struct{}{},
	}}
}

// Fail arms a fault beside those that are armed already.
func (f *Faulty) Fail(fault Fault) {
	f.st.mu.Lock()
	defer f.st.mu.Unlock()
	if fault.Times == 0 {
		fault.Times = 1
	}
	if fault.Err == nil {
		fault.Err = ErrInjected
	}
	if fault.Ops == 0 {
		fault.Ops = OpAny
	}
	f.st.faults = append(f.st.faults, &fault)
}

// Heal disarms all faults.
func (f *Faulty) Heal() {
	f.st.mu.Lock()
	defer f.st.mu.Unlock()
	f.st.faults = nil
}

// Before calls fn before each operation, outside all locks: fn may wait, and
// what it returns, unless nil, fails the operation.
func (f *Faulty) Before(fn func(op Op, name string) error) {
	f.st.mu.Lock()
	defer f.st.mu.Unlock()
	f.st.before = fn
}

// Fired is the number of operations that were failed.
func (f *Faulty) Fired() int {
	f.st.mu.Lock()
	defer f.st.mu.Unlock()
	return f.st.fired
}

// Counts returns a copy of the counters.
func (f *Faulty) Counts() Counts {
	f.st.mu.Lock()
	defer f.st.mu.Unlock()
	c := f.st.counts
	c.Ops = map[Op]int{}
	for op, n := range f.st.counts.Ops {
		c.Ops[op] = n
	}
	return c
}

// do counts an operation and returns how it fails, if it does.
func (st *faultState) do(op Op, name string) (short int, err error) {
	st.mu.Lock()
	before := st.before
	st.counts.Ops[op]++
	for _, fault := range st.faults {
		if fault.Ops&op == 0 || !Match(fault.Name, name) {
			continue
		}
		if fault.After > 0 {
			fault.After--
			continue
		}
		if fault.Times == 0 {
			continue
		}
		if fault.Times > 0 {
			fault.Times--
		}
		if err == nil {
			short, err = fault.Short, fault.Err
			st.fired++
		}
	}
	st.mu.Unlock()
	if err == nil && before != nil {
		err = before(op, name)
	}
	return short, err
}

func (st *faultState) opened(n int) {
	st.mu.Lock()
	st.counts.OpenFiles += n
	st.mu.Unlock()
}

func (f *Faulty) name(name string) string {
	if name == "." && f.prefix != "" {
		return f.prefix[:len(f.prefix)-1]
	}
	return f.prefix + name
}

// Open is FS.Open.
func (f *Faulty) Open(name string, flag Flag) (File, error) {
	op := OpOpen
	if flag&Create != 0 {
		op = OpCreate
	}
	if _, err := f.st.do(op, f.name(name)); err != nil {
		return nil, err
	}
	file, err := f.inner.Open(name, flag)
	if err != nil {
		return nil, err
	}
	ff := &faultyFile{File: file, st: f.st, path: f.name(name)}
	f.st.mu.Lock()
	f.st.open[ff] = struct{}{}
	f.st.counts.OpenFiles++
	f.st.mu.Unlock()
	return ff, nil
}

// MkdirAll is FS.MkdirAll.
func (f *Faulty) MkdirAll(dir string) error {
	if _, err := f.st.do(OpMkdir, f.name(dir)); err != nil {
		return err
	}
	return f.inner.MkdirAll(dir)
}

// Rename is FS.Rename; a fault's pattern is matched against the new name.
func (f *Faulty) Rename(from, to string) error {
	if _, err := f.st.do(OpRename, f.name(to)); err != nil {
		return err
	}
	if err := f.inner.Rename(from, to); err != nil {
		return err
	}
	f.st.mu.Lock()
	defer f.st.mu.Unlock()
	for ff := range f.st.open { // an open file goes by its newest name
		if ff.path == f.name(from) {
			ff.path = f.name(to)
		}
	}
	return nil
}

// Link is FS.Link; a fault's pattern is matched against the new name.
func (f *Faulty) Link(from, to string) error {
	if _, err := f.st.do(OpLink, f.name(to)); err != nil {
		return err
	}
	return f.inner.Link(from, to)
}

// Remove is FS.Remove.
func (f *Faulty) Remove(name string) error {
	if _, err := f.st.do(OpRemove, f.name(name)); err != nil {
		return err
	}
	return f.inner.Remove(name)
}

// List is FS.List.
func (f *Faulty) List(dir string) ([]Entry, error) {
	if _, err := f.st.do(OpList, f.name(dir)); err != nil {
		return nil, err
	}
	return f.inner.List(dir)
}

// Stat is FS.Stat.
func (f *Faulty) Stat(name string) (Entry, error) {
	if _, err := f.st.do(OpStat, f.name(name)); err != nil {
		return Entry{}, err
	}
	return f.inner.Stat(name)
}

// SyncDir is FS.SyncDir.
func (f *Faulty) SyncDir(dir string) error {
	if _, err := f.st.do(OpSyncDir, f.name(dir)); err != nil {
		return err
	}
	return f.inner.SyncDir(dir)
}

// SyncFS is FS.SyncFS.
func (f *Faulty) SyncFS() error {
	if _, err := f.st.do(OpSyncFS, f.name(".")); err != nil {
		return err
	}
	return f.inner.SyncFS()
}

// Lock is FS.Lock.
func (f *Faulty) Lock(name string) (io.Closer, error) {
	if _, err := f.st.do(OpLock, f.name(name)); err != nil {
		return nil, err
	}
	l, err := f.inner.Lock(name)
	if err != nil {
		return nil, err
	}
	f.st.opened(1)
	return &faultyLock{Closer: l, st: f.st}, nil
}

// Locked is FS.Locked.
func (f *Faulty) Locked(name string) (bool, error) {
	if _, err := f.st.do(OpLock, f.name(name)); err != nil {
		return false, err
	}
	return f.inner.Locked(name)
}

// Usage is FS.Usage.
func (f *Faulty) Usage() (Usage, error) {
	if _, err := f.st.do(OpUsage, f.name(".")); err != nil {
		return Usage{}, err
	}
	return f.inner.Usage()
}

// Sub is FS.Sub; its faults and counters are those of f.
func (f *Faulty) Sub(dir string) FS {
	prefix := f.prefix
	if dir != "." {
		prefix += dir + "/"
	}
	return &Faulty{inner: f.inner.Sub(dir), prefix: prefix, st: f.st}
}

// Path is FS.Path.
func (f *Faulty) Path(name string) string { return f.inner.Path(name) }

// Close is FS.Close.
func (f *Faulty) Close() error { return f.inner.Close() }

type faultyLock struct {
	io.Closer
	st   *faultState
	once sync.Once
}

func (l *faultyLock) Close() error {
	l.once.Do(func() { l.st.opened(-1) })
	return l.Closer.Close()
}
