package interop

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// RocketMQ's timer files: a wheel of slots, one a second, and a log of units, each
// of which names a record and the unit before it in its slot.
const (
	wheelSlots = 2 * 7 * 86_400
	slotSize   = 32
	unitSize   = 52
	logFile    = 100 << 20
	blankTail  = 16 // what a full file of the log ends with

	magicTimer = 1
	magicRoll  = 2
	magicBlank = 0xCBD43194

	second = 1000
	day    = 86_400 * second
	// rollWindow is how far ahead RocketMQ places a unit; one that is due later is
	// put again from there.
	rollWindow = 2 * day
	oldest     = 6 * day // RocketMQ forgets slots that lie 7 days back
)

// unit is a timer on its way into the log.
type unit struct {
	due, slot int64 // ms
	position  int64
	size      int32
	topic     string
}

// wheel is what is written for the pending timers.
type wheel struct {
	now      int64 // whole seconds, in ms
	units    []unit
	last     unit  // the newest record of the timer topic; size 0 without one
	queueEnd int64 // of the timer topic
	logEnd   int64
	read     int64 // up to where slots are done
}

func (w *wheel) add(u unit) { w.units = append(w.units, u) }

// write makes timerwheel, timerlog and config/timercheck.
func (w *wheel) write(to fs.FS) error {
	if err := fs.RemoveAll(to, "timerlog"); err != nil {
		return err
	}
	if err := fs.RemoveAll(to, "timerwheel"); err != nil {
		return err
	}
	w.arrange()
	slots, err := w.writeLog(to)
	if err != nil {
		return err
	}
	if err := w.writeSlots(to, slots); err != nil {
		return err
	}
	var b [4096]byte
	be := binary.BigEndian
	for i, v := range []int64{w.read, w.logEnd, w.queueEnd, w.queueEnd} {
		be.PutUint64(b[8*i:], uint64(v))
	}
	if err := fs.WriteFile(to, configFolder+"/timercheck", b[:]); err != nil {
		return err
	}
	return to.SyncDir(".")
}

// arrange gives every unit its slot, and brings those of a slot into due order.
//
// RocketMQ goes on reading the timer topic behind the record that the last unit of
// its log names. So the last unit names the topic's newest record; it lies in a
// slot that was done before all others, so that nobody looks at it.
func (w *wheel) arrange() {
	w.read = w.now
	for i := range w.units {
		u := &w.units[i]
		w.read = min(w.read, u.due/second*second)
		u.slot = max(u.due/second*second, w.now-oldest)
		if rest := u.due - w.now - rollWindow; rest >= 0 {
			u.slot = w.now + rollWindow
			if rest < rollWindow/3 {
				u.slot = w.now + rollWindow/2 // leave enough for the next time
			}
		}
	}
	slices.SortFunc(w.units, func(a, b unit) int {
		return cmp.Or(cmp.Compare(a.slot, b.slot), cmp.Compare(a.due, b.due), cmp.Compare(a.position, b.position))
	})
	if w.last.size > 0 {
		w.last.due = max(w.read-second, w.now-7*day)
		w.last.slot = w.last.due
		w.units = append(w.units, w.last)
	}
}

type slot struct {
	time, first, last int64
	count             int32
}

// writeLog writes the units and returns the slots that they lie in.
func (w *wheel) writeLog(to fs.FS) (slots []slot, err error) {
	dir := to.Sub("timerlog")
	if err := dir.MkdirAll("."); err != nil {
		return nil, err
	}
	const perFile = (logFile - blankTail) / unitSize
	for from := 0; from < len(w.units); from += perFile {
		part := w.units[from:min(from+perFile, len(w.units))]
		base := int64(from/perFile) * logFile
		b := make([]byte, 0, len(part)*unitSize+blankTail)
		for i := range part {
			b = w.appendUnit(b, &part[i], base+int64(i)*unitSize, &slots)
		}
		w.logEnd = base + int64(len(b))
		if len(part) == perFile {
			b = binary.BigEndian.AppendUint32(b, uint32(logFile-len(b)))
			b = binary.BigEndian.AppendUint64(b, 0)
			b = binary.BigEndian.AppendUint32(b, magicBlank)
			w.logEnd = base + logFile
		}
		if err := writeSparse(dir, fmt.Sprintf("%020d", base), logFile, func(f fs.File) error {
			_, err := f.WriteAt(b, 0)
			return err
		}); err != nil {
			return nil, err
		}
	}
	return slots, dir.SyncDir(".")
}

func (w *wheel) appendUnit(b []byte, u *unit, at int64, slots *[]slot) []byte {
	if n := len(*slots); n == 0 || (*slots)[n-1].time != u.slot {
		*slots = append(*slots, slot{time: u.slot, first: at, last: -1})
	}
	s := &(*slots)[len(*slots)-1]
	magic := uint32(magicTimer)
	if u.due-w.now >= rollWindow {
		magic |= magicRoll
	}
	be := binary.BigEndian
	b = be.AppendUint32(b, unitSize)
	b = be.AppendUint64(b, uint64(s.last))
	b = be.AppendUint32(b, magic)
	b = be.AppendUint64(b, uint64(w.now))
	b = be.AppendUint32(b, uint32(int32(u.slot-w.now)))
	b = be.AppendUint64(b, uint64(u.position))
	b = be.AppendUint32(b, uint32(u.size))
	b = be.AppendUint32(b, uint32(message.TagHash(u.topic))) // the same hash
	b = be.AppendUint64(b, 0)
	s.last = at
	s.count++
	return b
}

func (w *wheel) writeSlots(to fs.FS, slots []slot) error {
	return writeSparse(to, "timerwheel", wheelSlots*slotSize, func(f fs.File) error {
		for _, s := range slots {
			var b [slotSize]byte
			be := binary.BigEndian
			be.PutUint64(b[0:], uint64(s.time/second))
			be.PutUint64(b[8:], uint64(s.first))
			be.PutUint64(b[16:], uint64(s.last))
			be.PutUint32(b[24:], uint32(s.count))
			if _, err := f.WriteAt(b[:], s.time/second%wheelSlots*slotSize); err != nil {
				return err
			}
		}
		return nil
	})
}

func writeSparse(dir fs.FS, name string, size int64, fill func(fs.File) error) error {
	f, err := dir.Open(name, fs.Create|fs.Exclusive)
	if err != nil {
		return err
	}
	err = f.Truncate(size)
	if err == nil {
		err = fill(f)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
