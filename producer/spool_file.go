package producer

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	iofs "io/fs"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// The spool's file is frames one behind another:
//
//	length:4 checksum:4 kind:1 seq:8 payload
//
// Numbers are big-endian. The length counts everything behind the checksum, which
// is CRC-32 (Castagnoli) over just that. A message frame's payload is a
// message.Message in gob; a done frame says that the message of that seq is out.
// On disk. Do not renumber.
const (
	frameHead = 17

	frameMessage = 1
	frameDone    = 2
)

const (
	spoolName   = "spool"
	spoolNew    = "spool.new"
	refusedName = "refused"
	lockName    = "lock"

	maxFrame = 64 << 20
	// tidyAt is the size from which a file that is mostly done is rewritten.
	tidyAt = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func frame(kind byte, seq uint64, payload []byte) []byte {
	b := make([]byte, frameHead, frameHead+len(payload))
	binary.BigEndian.PutUint32(b, uint32(9+len(payload)))
	b[8] = kind
	binary.BigEndian.PutUint64(b[9:], seq)
	b = append(b, payload...)
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	return b
}

// parseFrame takes the first frame of b apart.
func parseFrame(b []byte) (kind byte, seq uint64, payload []byte, ok bool) {
	size, ok := frameSize(b)
	if !ok || size > len(b) || crc32.Checksum(b[8:size], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return 0, 0, nil, false
	}
	return b[8], binary.BigEndian.Uint64(b[9:]), b[frameHead:size], b[8] == frameMessage || b[8] == frameDone
}

func frameSize(b []byte) (size int, ok bool) {
	if len(b) < frameHead {
		return 0, false
	}
	n := binary.BigEndian.Uint32(b)
	return int(n) + 8, n >= 9 && n <= maxFrame
}

func encodeSpooled(m *message.Message) ([]byte, error) {
	var b bytes.Buffer
	c := *m
	c.DeliverAt, c.ExpireAt = roundTime(c.DeliverAt), roundTime(c.ExpireAt)
	if err := gob.NewEncoder(&b).Encode(&c); err != nil {
		return nil, fmt.Errorf("producer: spool: %w", err)
	}
	return b.Bytes(), nil
}

func decodeSpooled(b []byte) (*message.Message, error) {
	m := new(message.Message)
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(m); err != nil {
		return nil, fmt.Errorf("producer: spool: %w: %w", message.ErrCorrupt, err)
	}
	return m, nil
}

func openSpool(dir fs.FS, limit int64) (_ *Spool, err error) {
	if limit <= 0 {
		limit = DefaultSpoolLimit
	}
	s := &Spool{dir: dir, limit: limit, keys: make(map[key]int)}
	s.lock, err = dir.Lock(lockName)
	if errors.Is(err, fs.ErrLockHeld) {
		return nil, fmt.Errorf("producer: spool %s: %w", dir.Path("."), message.ErrLocked)
	}
	if err != nil && !errors.Is(err, fs.ErrUnsupported) {
		return nil, fmt.Errorf("producer: open spool: %w", err)
	}
	defer func() {
		if err != nil {
			if s.f != nil {
				_ = s.f.Close()
			}
			if s.lock != nil {
				_ = s.lock.Close()
			}
		}
	}()
	// A new file that was not renamed yet is not the truth.
	if err = dir.Remove(spoolNew); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return nil, fmt.Errorf("producer: open spool: %w", err)
	}
	if s.f, err = dir.Open(spoolName, fs.Create); err == nil {
		err = dir.SyncDir(".")
	}
	if err == nil {
		err = s.load()
	}
	if err != nil {
		return nil, fmt.Errorf("producer: open spool: %w", err)
	}
	return s, nil
}

// load reads the whole file.
func (s *Spool) load() error {
	b, err := readAll(s.f)
	if err != nil {
		return err
	}
	done := make(map[uint64]bool)
	var all []spooled
	at := int64(0)
	for at < int64(len(b)) {
		kind, seq, payload, ok := parseFrame(b[at:])
		if !ok {
			if whole, why := followed(b[at:]); whole {
				return &message.CorruptError{Path: s.dir.Path(spoolName), Offset: at, Reason: why}
			}
			break
		}
		size := int64(frameHead + len(payload))
		if kind == frameDone {
			done[seq] = true
		} else {
			m, err := decodeSpooled(payload)
			if err != nil {
				return &message.CorruptError{Path: s.dir.Path(spoolName), Offset: at, Reason: "not a message", Err: err}
			}
			all = append(all, spooled{seq: seq, off: at, size: size, key: key{m.Topic, m.ShardingKey}})
		}
		s.seq = max(s.seq, seq)
		at += size
	}
	s.end = at
	for _, e := range all {
		if !done[e.seq] {
			s.noteLocked(e)
		}
	}
	return s.setAside(b[at:])
}

// followed reports whether a whole frame stands behind a bad one: then it was
// not cut off but damaged.
func followed(b []byte) (bool, string) {
	if n, ok := frameSize(b); ok && n < len(b) {
		if _, _, _, ok := parseFrame(b[n:]); ok {
			return true, "a damaged message in front of whole ones"
		}
	}
	return false, ""
}

// setAside cuts what a crash has left unfinished, and keeps its bytes.
func (s *Spool) setAside(tail []byte) error {
	if len(tail) == 0 {
		return nil
	}
	if len(bytes.Trim(tail, "\x00")) > 0 {
		for n := 1; ; n++ {
			name := "torn-" + itoa(n)
			f, err := s.dir.Open(name, fs.Create|fs.Exclusive)
			if errors.Is(err, iofs.ErrExist) {
				continue
			}
			if err != nil {
				return err
			}
			if err := writeClose(f, tail); err != nil {
				return err
			}
			break
		}
		s.torn = int64(len(tail))
	}
	if err := s.f.Truncate(s.end); err != nil {
		return err
	}
	if err := s.f.Sync(); err != nil {
		return err
	}
	return s.dir.SyncDir(".")
}

func writeClose(f fs.File, b []byte) error {
	_, err := f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func readAll(f fs.File) ([]byte, error) {
	n, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// refuse moves a message that will never be taken into the file of refused ones.
func (s *Spool) refuse(e spooled, m *message.Message) error {
	payload, err := encodeSpooled(m)
	if err != nil {
		return err
	}
	f, err := s.dir.Open(refusedName, fs.Create)
	if err != nil {
		return fmt.Errorf("producer: spool: %w", err)
	}
	end, err := f.Size()
	if err == nil {
		_, err = f.WriteAt(frame(frameMessage, e.seq, payload), end)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = s.dir.SyncDir(".")
	}
	if err != nil {
		return fmt.Errorf("producer: spool: %w", err)
	}
	s.mu.Lock()
	s.refused++
	s.mu.Unlock()
	return s.remove(e)
}

// tidy makes removals durable and gives back the room of what is done.
func (s *Spool) tidy() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad != nil || s.closed || s.end == 0 {
		return s.bad
	}
	var err error
	switch {
	case len(s.live) == 0:
		if err = s.f.Truncate(0); err == nil {
			err = s.f.Sync()
		}
		s.end = 0
	case s.end > tidyAt && s.bytes < s.end/2:
		err = s.rewriteLocked()
	default:
		err = s.f.SyncData()
	}
	if err != nil {
		s.bad = fmt.Errorf("producer: spool %s: %w", s.dir.Path(spoolName), err)
	}
	return s.bad
}

// rewriteLocked copies what is live into a new file and puts it in the place of
// the old one.
func (s *Spool) rewriteLocked() error {
	f, err := s.dir.Open(spoolNew, fs.Create)
	if err != nil {
		return err
	}
	moved := make([]spooled, 0, len(s.live))
	end := int64(0)
	for _, e := range s.live {
		b := make([]byte, e.size)
		if _, err = s.f.ReadAt(b, e.off); err == nil {
			_, err = f.WriteAt(b, end)
		}
		if err != nil {
			break
		}
		e.off = end
		moved = append(moved, e)
		end += e.size
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = s.dir.Rename(spoolNew, spoolName)
	}
	if err != nil { // the old file is as good as ever
		_ = f.Close()
		return s.f.SyncData()
	}
	old := s.f
	s.f, s.live, s.end = f, moved, end
	if err := s.dir.SyncDir("."); err != nil {
		_ = old.Close()
		return err
	}
	return old.Close()
}
