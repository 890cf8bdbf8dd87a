package store

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"path"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/internal/kv"
)

// RepairReport says what a Repair found and did.
type RepairReport struct {
	// Found is the damage before, Left what it could not mend.
	Found, Left []Damage
	// Covered are the stretches of the log that hold fillers now. What was in
	// them is lost to readers; its bytes are in Aside.
	Covered []commitlog.Range
	// MetaLost says that topics' settings, groups and committed offsets could
	// not all be read; those in front of the damage are kept.
	MetaLost bool
	// Aside is the folder with every byte that was changed or removed; empty
	// when nothing was.
	Aside string
}

// Repair makes a damaged directory one that Open accepts and Check finds sound.
// It deletes nothing: what it changes or takes out is in ember/aside first.
// Damage in the log is covered with fillers, which readers and RocketMQ pass;
// messages on both sides of it keep their offsets, and those that are lost leave
// gaps, which Read passes. Queues, index and other views are built again. A
// directory that is sound stays as it is.
//
// The directory must not be open. The error is *LockedError if it is, or one of
// reading and writing; then Repair may be called again. Options are those of Open.
func Repair(ctx context.Context, dir string, opts ...Option) (RepairReport, error) {
	var report RepairReport
	var err error
	// First without writing: an Open builds anew what it can, over the damage.
	if report.Found, err = examine(ctx, dir, opts, OpenReadOnly); err == nil && len(report.Found) == 0 {
		report.Found, err = examine(ctx, dir, opts, Open)
	}
	if err != nil || len(report.Found) == 0 {
		return report, err
	}
	m, err := openMender(dir, opts)
	if err != nil {
		return report, err
	}
	err = m.mend(ctx, &report)
	if err = errors.Join(err, m.s.releaseFolders()); err != nil {
		return report, fmt.Errorf("store: repair %s: %w", dir, err)
	}
	report.Left, err = examine(ctx, dir, opts, Open)
	if err == nil && len(report.Left) > 0 {
		// What the watermark says of the end cannot be had any more.
		report.Left, err = examine(ctx, dir, append(opts[:len(opts):len(opts)], WithAcceptLog()), Open)
	}
	return report, err
}

// examine opens the directory and checks everything. Damage is no error.
func examine(ctx context.Context, dir string, opts []Option, open func(string, ...Option) (*Store, error)) ([]Damage, error) {
	s, err := open(dir, opts...)
	if errors.Is(err, ErrCorrupt) {
		d, ok := asDamage(err)
		if !ok {
			d = Damage{Path: dir, Reason: err.Error()}
		}
		return []Damage{d}, nil
	}
	if err != nil {
		return nil, err
	}
	report, err := s.Check(ctx)
	return report.Damages, errors.Join(err, s.Close())
}

// storeMender works on a directory that nobody has open.
type storeMender struct {
	s     *Store
	aside string // in state
	kept  bool
	piece fs.File // what keepLog appends to
	name  string
	next  int64 // in the segment, where it goes on
	from  int64
}

func openMender(dir string, opts []Option) (*storeMender, error) {
	c, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	m := &storeMender{s: &Store{cfg: c}}
	err = m.s.openRoot(dir, false)
	if err == nil {
		m.s.lock, err = takeLock(m.s.root)
	}
	if err == nil {
		err = m.s.openFolders(dir, false)
	}
	if err == nil {
		err = m.chooseAside()
	}
	if err != nil {
		return nil, errors.Join(err, m.s.releaseFolders())
	}
	return m, nil
}

// chooseAside finds a name that no repair has used.
func (m *storeMender) chooseAside() error {
	for n := 1; ; n++ {
		m.aside = fmt.Sprintf("aside/repair-%d", n)
		if _, err := m.s.state.Stat(m.aside); errors.Is(err, iofs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (m *storeMender) mend(ctx context.Context, report *RepairReport) error {
	defer func() {
		if m.kept {
			report.Aside = m.s.state.Path(m.aside)
		}
	}()
	if err := m.format(); err != nil {
		return err
	}
	foreign, err := readForeign(m.s.state)
	if errors.Is(err, ErrCorrupt) {
		err = m.take(m.s.state, foreignName)
	}
	if err != nil {
		return err
	}
	report.Covered, err = commitlog.Repair(ctx, m.s.logFS, m.s.state, commitlog.Options{
		SegmentSize: m.s.format.segmentSize, MaxUnsynced: m.s.cfg.maxUnsynced, Foreign: foreign, Clock: m.s.cfg.env.Clock,
	}, m.keepLog)
	if err = errors.Join(err, m.endPiece()); err != nil {
		return err
	}
	for _, f := range []struct {
		fs   fs.FS
		name string
	}{{m.s.queueFS, "."}, {m.s.indexFS, "."}, {m.s.state, "queues"}, {m.s.state, "index"}} {
		if err := m.take(f.fs, f.name); err != nil {
			return err
		}
	}
	if err := m.strays(); err != nil {
		return err
	}
	report.MetaLost, err = m.meta(ctx)
	return err
}

// strays takes out what Check does not know.
func (m *storeMender) strays() error {
	for _, f := range []struct {
		fs      fs.FS
		belongs func(fs.Entry) bool
	}{{m.s.root, belongsInRoot}, {m.s.state, belongsInState}} {
		entries, err := f.fs.List(".")
		if err != nil {
			return err
		}
		for _, e := range entries {
			if f.belongs(e) {
				continue
			}
			if err := m.take(f.fs, e.Name); err != nil {
				return err
			}
			if e.Dir {
				if err := f.fs.Remove(e.Name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// format makes FORMAT anew from the files when it cannot be read.
func (m *storeMender) format() (err error) {
	var found bool
	m.s.format, found, err = readFormat(m.s.state)
	if found || err != nil && !errors.Is(err, ErrCorrupt) {
		return err
	}
	m.s.format = newFormat(m.s.cfg)
	if m.s.cfg.segmentSize == 0 {
		m.s.format.segmentSize = usualSize(m.s.logFS, ".", m.s.format.segmentSize)
	}
	if m.s.cfg.queueFileSize == 0 {
		m.s.format.queueFileSize = usualSize(m.s.queueFS, ".", m.s.format.queueFileSize)
	}
	if err := m.take(m.s.state, formatName); err != nil {
		return err
	}
	return writeFormat(m.s.state, m.s.format)
}

// usualSize is the size that most files below dir have.
func usualSize(fsys fs.FS, dir string, otherwise int64) int64 {
	count := map[int64]int{}
	var walk func(dir string)
	walk = func(dir string) {
		entries, _ := fsys.List(dir)
		for _, e := range entries {
			if e.Dir {
				walk(path.Join(dir, e.Name))
			} else if e.Size > 0 {
				count[e.Size]++
			}
		}
	}
	walk(dir)
	best := otherwise
	for size, n := range count {
		if n > count[best] || n == count[best] && size > best {
			best = size
		}
	}
	return best
}

// meta replaces a key-value store that cannot be read to its end by one with
// what can be.
func (m *storeMender) meta(ctx context.Context) (lost bool, err error) {
	var rows []kv.KV
	db, err := kv.Open(m.s.metaFS, kv.Options{MustExist: true, Clock: m.s.cfg.env.Clock})
	if err == nil {
		for row, rerr := range db.Scan([]byte(primaryPrefix), prefixEnd(primaryPrefix)) {
			if err = rerr; err != nil {
				break
			}
			rows = append(rows, kv.KV{Key: append([]byte{}, row.Key...), Value: append([]byte{}, row.Value...)})
		}
		err = errors.Join(err, db.Close())
	}
	if err == nil || !errors.Is(err, kv.ErrCorrupt) {
		return false, mapMeta(err)
	}
	if err := m.take(m.s.metaFS, "."); err != nil {
		return true, err
	}
	if err := m.s.metaFS.MkdirAll("."); err != nil {
		return true, err
	}
	db, err = kv.Open(m.s.metaFS, kv.Options{Clock: m.s.cfg.env.Clock})
	if err != nil {
		return true, mapMeta(err)
	}
	w := &rowWriter{db: db}
	for _, r := range rows {
		err = errors.Join(err, w.set(ctx, r.Key, r.Value))
	}
	return true, errors.Join(err, w.flush(ctx), mapMeta(db.Close()))
}
