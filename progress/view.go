package progress

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/internal/plant"
	"github.com/embermq/embermq/message"
)

// keyMark is where the view's mark lies. On disk. Do not change.
const keyMark = "v/progress/mark"

const markRowSize = 1 + 8 + 4

// view is how far the settlements in the log are in the rows.
type view struct {
	mark message.Mark
	ok   bool
}

func (v *view) load(db DB) error {
	for row, err := range db.Scan([]byte(keyMark), []byte(keyMark+"\x00")) {
		if err != nil {
			return err
		}
		if err := checkRow(row.Key, row.Value, markRowSize); err != nil {
			return err
		}
		v.mark.Offset = int64(binary.BigEndian.Uint64(row.Value[1:]))
		v.mark.Fingerprint = binary.BigEndian.Uint32(row.Value[9:])
		v.ok = v.mark.Offset >= 0
	}
	return nil
}

// View is the part of Progress that follows from the log: what records with a
// settlement have settled. What it learns lies in the same rows as everything
// else, so a rebuild only adds what is missing, and applying a record twice
// changes nothing.
type View struct{ p *Progress }

// View returns the view. Its methods are called by one goroutine at a time.
func (p *Progress) View() *View { return &View{p} }

// Name is the view's name in reports.
func (v *View) Name() string { return "progress" }

// Apply settles what r says. It ignores a settlement that was copied from
// another record, one of another epoch of the group, and one for a queue in
// which the group has no place or which has no such record.
func (v *View) Apply(r *message.Record) {
	s, ok := r.Settles()
	if !ok {
		return
	}
	p := v.p
	_, end, err := p.o.Bounds(s.Queue)
	if err != nil || s.Offset >= end {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.mu.groups[s.Group]
	if g == nil || g.epoch != s.Epoch && !(plant.Enabled && plant.Is(plant.OldSettlements)) {
		return
	}
	if row := g.findRow(s.Queue); row != nil && row.settle(s.Offset) {
		p.rowDirtyLocked(row)
	}
}

// Freeze returns a function that makes everything applied so far durable, and
// then the mark.
func (v *View) Freeze(m message.Mark) func() error {
	return func() error {
		ctx := context.Background()
		if err := v.p.flushAll(ctx); err != nil {
			return err
		}
		b := new(kv.Batch)
		value := binary.BigEndian.AppendUint64([]byte{rowVersion}, uint64(m.Offset))
		b.Set([]byte(keyMark), binary.BigEndian.AppendUint32(value, m.Fingerprint))
		if err := v.p.db.Apply(ctx, b, true); err != nil {
			return fmt.Errorf("progress: save mark: %w", err)
		}
		v.p.mark = view{mark: m, ok: true}
		return nil
	}
}

// Saved is the mark of the last save.
func (v *View) Saved() (message.Mark, bool) { return v.p.mark.mark, v.p.mark.ok }

// Reset does nothing: what is settled stays so, and replaying settlements changes
// nothing.
func (v *View) Reset() error { return nil }

// flushAll is Flush that may follow Close, which has written everything then.
func (p *Progress) flushAll(ctx context.Context) error {
	p.mu.Lock()
	target := p.mu.changed
	done := p.mu.saved >= target
	p.mu.Unlock()
	if done {
		return nil
	}
	return p.flushTo(ctx, target)
}
