package progress

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// pending is what memory knows and the disk may not. It names things rather
// than holding values: a batch always carries what is true when it is taken.
type pending struct {
	groups map[string]struct{} // to write, or to delete when not in memory
	drops  []dropped           // come before the rows in a batch
	rows   []*row
}

// dropped names all offsets of one group in one topic.
type dropped struct{ group, topic string }

func (d *pending) drop(group, topic string) {
	d.drops = append(d.drops, dropped{group, strings.Clone(topic)})
}

func (p *Progress) rowDirtyLocked(r *row) {
	if !r.dirty {
		r.dirty = true
		p.mu.dirty.rows = append(p.mu.dirty.rows, r)
	}
	p.changedLocked()
}

func (p *Progress) groupDirtyLocked(name string) {
	p.mu.dirty.groups[name] = struct{}{}
	p.changedLocked()
}

// changedLocked follows every change of dirty and sees to it that somebody
// writes it.
func (p *Progress) changedLocked() {
	p.mu.changed++
	if p.mu.since.IsZero() {
		p.mu.since = p.o.Clock.Now()
	}
	if p.mu.running || p.mu.closed || p.o.Manual {
		return
	}
	p.mu.running = true
	p.writer.Add(1)
	go p.write()
}

// Flush returns when everything that happened before is on disk: it syncs the
// log, then writes and syncs one batch. Callers at the same time share a batch.
// After an error, also of ctx, everything is still in memory and is written
// later.
func (p *Progress) Flush(ctx context.Context) error {
	p.mu.Lock()
	closed, target, saved := p.mu.closed, p.mu.changed, p.mu.saved
	p.mu.Unlock()
	if closed {
		return message.ErrClosed
	}
	if saved >= target {
		return nil
	}
	return p.flushTo(ctx, target)
}

func (p *Progress) flushTo(ctx context.Context, target uint64) error {
	if err := p.take(ctx); err != nil {
		return err
	}
	defer p.release()
	return p.flush(ctx, target)
}

// Step writes what is pending, as the background does when it is due, and says
// whether there was anything. It is for Options.Manual.
func (p *Progress) Step(ctx context.Context) (worked bool, err error) {
	p.mu.Lock()
	worked = p.mu.saved < p.mu.changed
	p.mu.Unlock()
	return worked, p.Flush(ctx)
}

func (p *Progress) take(ctx context.Context) error {
	select {
	case p.slot <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Progress) release() { <-p.slot }

// snapshot is one batch between memory and disk.
type snapshot struct {
	upTo   uint64
	groups []groupState
	drops  []dropped
	rows   []*row
	values []place // of rows; the offset is -1 for a dead one
	batch  kv.Batch
}

type groupState struct {
	name  string
	row   groupRow
	alive bool
}

// flush needs the slot. A caller that waited for it mostly finds its target
// saved by the one before: that is how callers share a batch.
func (p *Progress) flush(ctx context.Context, target uint64) error {
	p.mu.Lock()
	if p.mu.saved >= target {
		p.mu.Unlock()
		return nil
	}
	p.snapshotLocked()
	p.mu.Unlock()
	err := p.save(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.restoreLocked()
		return fmt.Errorf("progress: flush: %w", err)
	}
	p.mu.saved = p.snap.upTo
	for _, r := range p.snap.rows {
		r.stored = true
	}
	return nil
}

// snapshotLocked takes names and values, nothing is encoded under the lock: ten
// thousand rows must not stop commits for a millisecond.
func (p *Progress) snapshotLocked() {
	s, d := &p.snap, &p.mu.dirty
	s.upTo = p.mu.changed
	p.mu.since = time.Time{}
	s.groups = s.groups[:0]
	for name := range d.groups {
		st := groupState{name: name}
		if g := p.mu.groups[name]; g != nil {
			st.row, st.alive = g.row(), true
			g.stored = g.seen
		}
		s.groups = append(s.groups, st)
	}
	clear(d.groups)
	s.drops, d.drops = d.drops, s.drops[:0]
	s.rows, d.rows = d.rows, s.rows[:0]
	s.values = s.values[:0]
	for _, r := range s.rows {
		r.dirty = false
		v := place{offset: -1}
		if !r.dead {
			v = r.placeNow()
		}
		s.values = append(s.values, v)
	}
}

// restoreLocked makes pending again what could not be saved. Drops keep their
// place before later ones; rows are written with whatever they hold by then.
func (p *Progress) restoreLocked() {
	s, d := &p.snap, &p.mu.dirty
	for _, g := range s.groups {
		d.groups[g.name] = struct{}{}
	}
	d.drops = append(d.drops, s.drops...)
	for _, r := range s.rows {
		if !r.dirty && !r.dead {
			r.dirty = true
			d.rows = append(d.rows, r)
		}
	}
	if p.mu.since.IsZero() {
		p.mu.since = p.o.Clock.Now()
	}
}

// save writes the snapshot. The values were taken before the log is synced, so
// none of them can pass what is durable then.
func (p *Progress) save(ctx context.Context) error {
	s := &p.snap
	if len(s.rows) > 0 && !(plant.Enabled && plant.Is(plant.OffsetsBeforeLog)) {
		if err := p.o.SyncLog(ctx); err != nil {
			return fmt.Errorf("sync log: %w", err)
		}
	}
	b := &s.batch
	b.Reset()
	for _, d := range s.drops {
		b.DeleteRange(topicRange(d.group, d.topic))
	}
	for _, g := range s.groups {
		if g.alive {
			b.Set(groupKey(g.name), encodeGroup(g.row))
		} else {
			deleteGroup(b, g.name)
		}
	}
	var key, value []byte
	for i, r := range s.rows {
		if s.values[i].offset < 0 {
			continue
		}
		key = appendOffsetKey(key[:0], r.t.g.name, r.t.name, r.id)
		value = appendPlace(value[:0], &s.values[i])
		b.Set(key, value)
		if b.Size() >= batchBytes {
			if err := p.db.Apply(ctx, b, true); err != nil {
				return err
			}
			b.Reset()
		}
	}
	if b.Len() == 0 {
		return nil
	}
	return p.db.Apply(ctx, b, true)
}

// batchBytes splits what a million queues leave behind: the key-value store
// takes no batch of any size. Each row stands for itself, so a crash between
// two pieces does no harm.
const batchBytes = 4 << 20

// edit is a change that is on disk before memory has it.
type edit struct {
	// prepare fills the batch. It holds the slot and mu and leaves memory alone;
	// its error ends the edit.
	prepare func(b *kv.Batch) error
	// apply changes memory, holding both again.
	apply func()
	// topics are those whose offsets the batch carries.
	topics []string
	// raises: members' claims are void afterwards.
	raises bool
}

// change carries an edit of one group out. If the batch fails, it may or may
// not be on disk: then memory, where nothing changed, is made pending.
func (p *Progress) change(ctx context.Context, group string, e edit) error {
	err := p.carryOut(ctx, group, e)
	if err == nil && e.raises {
		p.o.Raised(group)
	}
	return err
}

func (p *Progress) carryOut(ctx context.Context, group string, e edit) error {
	if err := p.take(ctx); err != nil {
		return err
	}
	defer p.release()
	b := new(kv.Batch)
	p.mu.Lock()
	err := error(message.ErrClosed)
	if !p.mu.closed {
		err = e.prepare(b)
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	if len(e.topics) > 0 {
		if err := p.o.SyncLog(ctx); err != nil {
			return fmt.Errorf("progress: group %q: sync log: %w", group, err)
		}
	}
	err = p.db.Apply(ctx, b, true)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.healLocked(group, e.topics)
		return fmt.Errorf("progress: group %q: %w", group, err)
	}
	e.apply()
	return nil
}

// healLocked makes pending what a failed edit may have changed on disk: the
// group's row and its offsets in the topics. A group that memory does not have
// is deleted with all offsets; one that the edit wanted to delete gets all its
// offsets back.
func (p *Progress) healLocked(name string, topics []string) {
	g := p.mu.groups[name]
	if g != nil {
		name = g.name
	}
	p.groupDirtyLocked(strings.Clone(name))
	if g == nil {
		return
	}
	for _, t := range topics {
		p.mu.dirty.drop(name, t)
	}
	for _, t := range g.topics {
		for _, r := range t.rows {
			p.rowDirtyLocked(r)
		}
	}
}

// retryMost is how long the writer waits between attempts that fail.
const retryMost = 5 * time.Second

// write is the writer goroutine: it lives while something is pending. Nobody
// hears its errors, so it logs the first of a series.
func (p *Progress) write() {
	defer p.writer.Done()
	failed := 0
	for {
		if !p.waitDue(failed) {
			return
		}
		p.mu.Lock()
		target := p.mu.changed
		p.mu.Unlock()
		err := p.flushTo(p.background, target)
		switch {
		case err == nil:
			failed = 0
		case p.background.Err() != nil:
			return
		default:
			if failed == 0 {
				p.o.Logger.Error("offsets could not be written; they stay in memory", "error", err)
			}
			failed++
		}
		// A poisoned or closed store never takes another batch.
		hopeless := errors.Is(err, message.ErrPoisoned) || errors.Is(err, message.ErrClosed)
		p.mu.Lock()
		if p.mu.saved >= p.mu.changed || hopeless {
			// A poisoned one keeps running set: no later change may start a
			// goroutine only to fail again.
			p.mu.running = hopeless
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
	}
}

// waitDue waits until the oldest change is FlushEvery old, or longer after
// failures. It reports false when Close ends the wait.
func (p *Progress) waitDue(failed int) bool {
	p.mu.Lock()
	since := p.mu.since
	p.mu.Unlock()
	d := p.o.FlushEvery
	if failed > 0 {
		d = min(d<<min(failed, 16), max(retryMost, d))
	} else if !since.IsZero() {
		// A clock that went back makes no change wait longer than that.
		d = min(d, d-p.o.Clock.Now().Sub(since))
	}
	if d <= 0 {
		return p.background.Err() == nil
	}
	due, stop := p.o.Clock.After(d)
	defer stop()
	select {
	case <-due:
		return true
	case <-p.background.Done():
		return false
	}
}
