package commitlog

import (
	"fmt"

	"github.com/embermq/embermq/message"
)

// Expire removes the segments that lie wholly in front of before, oldest first,
// and returns them. The active segment stays, and so does the one with the last
// synced record, which the watermark names. Readers that hold a removed segment
// keep its bytes.
//
// Each removal is durable before the next begins: a gap would look like a lost
// file. After an error the segments returned are gone and the others are there.
func (l *Log) Expire(before int64) (removed []Segment, err error) {
	if l.o.ReadOnly {
		return nil, fmt.Errorf("commitlog: expire: %w", message.ErrReadOnly)
	}
	l.rollMu.Lock()
	defer l.rollMu.Unlock()
	l.wm.mu.Lock()
	before = min(before, l.wm.last.mark.Offset-1)
	l.wm.mu.Unlock()
	list := l.segs.all()
	if len(list) < 2 || list[0].end() > before {
		return nil, nil
	}
	if err := l.Poison(); err != nil {
		return nil, err
	}
	n := 1
	for n < len(list)-1 && list[n].end() <= before {
		n++
	}
	// The watermark must not name what is gone, and tells what went from what was lost.
	if err := l.wm.saveStart(list[n].base); err != nil {
		return nil, l.breakDown("sync the watermark", err)
	}
	for _, s := range list[:n] {
		if err := l.segs.dir.Remove(s.name); err != nil {
			return removed, fmt.Errorf("commitlog: expire: %w", err)
		}
		l.segs.dropFirst()
		removed = append(removed, s.info())
		if err := l.segs.dir.SyncDir("."); err != nil {
			return removed, fmt.Errorf("commitlog: expire: %w", err)
		}
	}
	return removed, nil
}
