package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	iofs "io/fs"
	"sync"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// The watermark file. On disk. Do not change; see docs/format/synced.md.
const (
	syncedName = "synced"
	slotSize   = 512
	slotBytes  = 60
	slotMagic  = "EMBSYNC1"
	slotClean  = 1
)

// slot is one saved watermark.
type slot struct {
	sequence    uint64
	mark        message.Mark // the last record that is synced
	clean       bool         // the log was closed behind it
	maxUnsynced int64        // W in force while records behind it are written
	owner       uint64
	start       int64 // no segment from here on has expired
}

func (s *slot) encode(b []byte) {
	be := binary.BigEndian
	copy(b, slotMagic)
	be.PutUint64(b[8:], s.sequence)
	be.PutUint64(b[16:], uint64(s.mark.Offset))
	be.PutUint32(b[24:], s.mark.Fingerprint)
	var flags uint32
	if s.clean {
		flags = slotClean
	}
	be.PutUint32(b[28:], flags)
	be.PutUint64(b[32:], uint64(s.maxUnsynced))
	be.PutUint64(b[40:], s.owner)
	be.PutUint64(b[48:], uint64(s.start))
	be.PutUint32(b[56:], crc32.ChecksumIEEE(b[:56]))
}

// decode reads a slot; ok is false for one that was never written or is torn.
func (s *slot) decode(b []byte) (ok bool) {
	be := binary.BigEndian
	if len(b) < slotBytes || string(b[:8]) != slotMagic || be.Uint32(b[56:]) != crc32.ChecksumIEEE(b[:56]) {
		return false
	}
	*s = slot{
		sequence:    be.Uint64(b[8:]),
		mark:        message.Mark{Offset: int64(be.Uint64(b[16:])), Fingerprint: be.Uint32(b[24:])},
		clean:       be.Uint32(b[28:])&slotClean != 0,
		maxUnsynced: int64(be.Uint64(b[32:])),
		owner:       be.Uint64(b[40:]),
		start:       int64(be.Uint64(b[48:])),
	}
	return s.mark.Offset >= 0 && s.maxUnsynced > 0 && s.start >= 0
}

// watermark is the open file. Saves alternate between two slots in sectors of
// their own, so that a torn one leaves the one before it.
type watermark struct {
	mu   sync.Mutex
	file fs.File
	last slot
	buf  [slotBytes]byte
}

// readSlots returns the newest saved watermark; found is false if there is no
// file, which is how a directory of another program looks.
func readSlots(state fs.FS) (s slot, found bool, err error) {
	f, err := state.Open(syncedName, fs.ReadOnly)
	if errors.Is(err, iofs.ErrNotExist) {
		return s, false, nil
	}
	if err != nil {
		return s, false, fmt.Errorf("commitlog: open watermark: %w", err)
	}
	var b [2 * slotSize]byte
	n, err := f.ReadAt(b[:], 0)
	if err == io.EOF {
		err = nil
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return s, false, fmt.Errorf("commitlog: read watermark: %w", err)
	}
	var other slot
	a, o := s.decode(b[:min(n, slotSize)]), n > slotSize && other.decode(b[slotSize:n])
	switch {
	case a && o && other.sequence > s.sequence, !a && o:
		s = other
	case !a && !o:
		return s, false, &message.CorruptError{Path: state.Path(syncedName), Reason: "no valid watermark in either slot"}
	}
	return s, true, nil
}

// open opens the file for writing, or makes it, with s in it. s has the sequence
// that was read: the next save must not hit the slot that it was read from, for
// the other one may be torn.
func (w *watermark) open(state fs.FS, found bool, s slot) error {
	if !found {
		// Both slots are valid from the start: of two saves that a power cut meets,
		// one may be torn and the other lost.
		var b [2 * slotSize]byte
		s.sequence = 0
		s.encode(b[:])
		s.sequence = 1
		s.encode(b[slotSize:])
		if err := fs.WriteFile(state, syncedName, b[:]); err != nil {
			return fmt.Errorf("commitlog: make watermark: %w", err)
		}
	}
	f, err := state.Open(syncedName, 0)
	if err != nil {
		return fmt.Errorf("commitlog: open watermark: %w", err)
	}
	w.file, w.last = f, s
	if !found {
		return nil
	}
	// The slot that was read may be in the kernel's memory only, left by a process
	// that was killed. It has to be on disk before the other one is written: a power
	// cut would lose the one and tear the other.
	if err := f.SyncData(); err != nil {
		return fmt.Errorf("commitlog: sync watermark: %w", err)
	}
	// Both slots get the W that is in force from now on: of two later saves one may be
	// torn and the other lost, and an older slot's W would call a hole corruption.
	if err := w.saveDurably(); err != nil {
		return err
	}
	return w.saveDurably()
}

// save writes the mark into the next slot. It does not sync: after a kill the
// watermark is exact, after a power cut it is perhaps an older one.
func (w *watermark) save(m message.Mark) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last.mark = m
	return w.writeLocked()
}

func (w *watermark) writeLocked() error {
	w.last.sequence++
	w.last.encode(w.buf[:])
	if _, err := w.file.WriteAt(w.buf[:], int64(w.last.sequence%2)*slotSize); err != nil {
		return fmt.Errorf("commitlog: save watermark: %w", err)
	}
	return nil
}

// saveDurably writes the watermark once more and syncs it.
func (w *watermark) saveDurably() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.writeLocked()
	if err == nil {
		err = w.file.SyncData()
	}
	if err != nil {
		return fmt.Errorf("commitlog: sync watermark: %w", err)
	}
	return nil
}

// saveStart notes, durably and in both slots, that what lies below start may go. An
// older slot would call it lost, and a power cut can tear the newest one.
func (w *watermark) saveStart(start int64) error {
	w.mu.Lock()
	w.last.start = max(w.last.start, start)
	w.mu.Unlock()
	if err := w.saveDurably(); err != nil {
		return err
	}
	return w.saveDurably()
}

// saveClean marks the log as closed behind the last saved mark.
func (w *watermark) saveClean() error {
	w.mu.Lock()
	w.last.clean = true
	w.mu.Unlock()
	return w.saveDurably()
}

func (w *watermark) close() error {
	if w.file == nil {
		return nil
	}
	return w.file.Close()
}

// SaveDurably makes the saved watermark survive a power cut. A checkpoint that
// names a position calls it first; the watermark then is at least Synced as of
// the call.
func (l *Log) SaveDurably() error {
	if l.o.ReadOnly {
		return nil
	}
	if err := l.Poison(); err != nil {
		return err
	}
	if err := l.wm.saveDurably(); err != nil {
		return l.breakDown("sync the watermark", err)
	}
	return nil
}
