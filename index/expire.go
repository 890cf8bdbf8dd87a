package index

import (
	"fmt"
	"slices"

	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// Expire removes the files whose records all lie below start, which the log does
// not have any more, but never the last one. The removal is durable when Expire
// returns. A file that is not written yet stays until the next call.
func (x *Index) Expire(start int64) error {
	if x.o.ReadOnly {
		return message.ErrReadOnly
	}
	x.saveMu.Lock()
	defer x.saveMu.Unlock()
	list := *x.files.Load()
	n := 0
	x.buildMu.Lock()
	for n < len(list)-1 && list[n].stored && list[n].head.EndPosition < start {
		n++
	}
	old := list[:n]
	x.buildMu.Unlock()
	if n == 0 {
		return nil
	}
	if plant.Enabled && plant.Is(plant.IndexRemovesEarly) {
		if err := x.remove(old); err != nil {
			return err
		}
	}
	// The state goes first: it must never name a file that is gone.
	if x.last != nil {
		im := &image{mark: x.last.mark}
		for _, r := range x.last.rows {
			if !slices.ContainsFunc(old, func(f *file) bool { return f.number == r.number }) {
				im.rows = append(im.rows, r)
			}
		}
		if len(im.rows) < len(x.last.rows) {
			if err := x.writeImage(im); err != nil {
				return fmt.Errorf("index: expire: %w", err)
			}
		}
	}
	x.buildMu.Lock()
	for _, f := range old {
		f.expired = true
	}
	list = *x.files.Load()
	x.setFiles(list[n:len(list):len(list)])
	x.buildMu.Unlock()
	return x.remove(old)
}

// remove deletes files durably.
func (x *Index) remove(old []*file) error {
	for _, f := range old {
		x.handles.drop(f)
		if err := x.fsys.Remove(f.name); err != nil && !isNotExist(err) {
			return fmt.Errorf("index: expire: %w", err)
		}
	}
	if err := x.fsys.SyncDir("."); err != nil {
		return fmt.Errorf("index: expire: %w", err)
	}
	return nil
}

// Reset forgets everything: the state, the files and what is in memory. A replay
// from the log's start follows. Only files named like index files are removed.
// With ReadOnly it empties the memory only, and the replay stays there.
func (x *Index) Reset() error {
	x.saveMu.Lock()
	defer x.saveMu.Unlock()
	x.roundMu.Lock()
	defer x.roundMu.Unlock()
	if err := x.resetLocked(); err != nil {
		return err
	}
	x.feed.mu.Lock()
	x.feed.dropLocked()
	x.feed.gap, x.feed.applied = false, 0
	x.feed.mu.Unlock()
	return nil
}

// Rebuild forgets everything and builds the index anew from the log's records
// from position start on, in the background, while Apply and queries go on; Wait
// waits for it. It needs Options.Scan. With Options.Manual Step does the work.
func (x *Index) Rebuild(start int64) error {
	if x.o.Scan == nil {
		return fmt.Errorf("index: rebuild: %w", message.ErrUnsupported)
	}
	x.saveMu.Lock()
	defer x.saveMu.Unlock()
	x.roundMu.Lock()
	defer x.roundMu.Unlock()
	if x.closed.Load() {
		return message.ErrClosed
	}
	// Applied stays: what comes goes into the feed, the rest is a gap.
	f := &x.feed
	f.mu.Lock()
	f.dropLocked()
	f.mu.Unlock()
	if err := x.resetLocked(); err != nil {
		return err
	}
	x.built.Store(start)
	x.scanned = start
	x.Kick()
	return nil
}

// mends reports that the index can build itself anew.
func (x *Index) mends() bool { return x.o.Scan != nil && x.o.Start != nil }

// mend builds the index anew when it is damaged and can be.
func (x *Index) mend() bool {
	if x.Damaged() == nil || !x.mends() || x.ctx.Err() != nil {
		return false
	}
	if err := x.Rebuild(x.o.Start()); err != nil {
		x.halted(err)
		return false
	}
	x.stats.rebuilds.Add(1)
	return true
}

// resetLocked empties everything but the feed. The caller holds saveMu and
// roundMu.
func (x *Index) resetLocked() error {
	x.setSaved(message.Mark{}, false, "reset")
	x.buildMu.Lock()
	defer x.buildMu.Unlock()
	old := *x.files.Load()
	for _, f := range old {
		f.expired = true
	}
	x.setFiles(nil)
	if x.todo != nil {
		x.feed.mu.Lock()
		x.feed.recycleLocked(x.todo)
		x.feed.mu.Unlock()
	}
	x.active, x.toload, x.todo, x.points, x.pending, x.scanned = nil, nil, nil, nil, 0, 0
	x.last = nil
	x.built.Store(0)
	x.loaded.Store(true)
	for _, f := range old {
		x.handles.drop(f)
	}
	if !x.o.ReadOnly {
		if err := x.removeAll(); err != nil {
			return fmt.Errorf("index: reset: %w", err)
		}
	}
	x.errMu.Lock()
	x.damage = nil
	x.errMu.Unlock()
	return nil
}

// removeAll removes the state, durably, and then the files: the state must never
// name a file that is gone.
func (x *Index) removeAll() error {
	if err := x.state.Remove(stateName); err != nil && !isNotExist(err) {
		return err
	}
	if err := x.state.SyncDir("."); err != nil {
		return err
	}
	names, err := x.listFiles()
	if err != nil {
		return err
	}
	for _, e := range names {
		if err := x.fsys.Remove(e.Name); err != nil && !isNotExist(err) {
			return err
		}
	}
	if err := x.fsys.MkdirAll("."); err != nil {
		return err
	}
	return x.fsys.SyncDir(".")
}
