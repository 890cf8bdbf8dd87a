package producer

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// DefaultSpoolLimit is how large a spool's file may become by default.
const DefaultSpoolLimit = 256 << 20

// Spool keeps messages that could not be sent in a folder of its own, outside
// the engine. One Spool serves one Producer.
//
// A message is synced to the spool's file before the send that failed returns. It
// is taken out after it was sent: a crash between the two sends it twice. What an
// engine calls invalid when it is sent again goes to the file "refused", so that it is
// neither lost nor in the way.
type Spool struct {
	dir   fs.FS
	lock  io.Closer
	limit int64
	torn  int64

	// Invariant: live is in the order of seq, and keys counts it by key.
	mu      sync.Mutex
	f       fs.File
	end     int64
	seq     uint64
	live    []spooled
	bytes   int64 // of live
	keys    map[key]int
	refused int
	bad     error // a write or sync has failed
	closed  bool
}

// spooled is where a message lies in the file.
type spooled struct {
	seq  uint64
	off  int64
	size int64
	key  key
}

// OpenSpool opens the spool in dir and makes the folder if it is missing. limit
// bounds the file, 256 MiB if zero: what does not fit is not kept. The folder is
// locked; a second opener gets ErrLocked. A message whose writing was cut by a
// crash was never promised: its bytes are set aside in the folder. Damage in front
// of whole messages is *CorruptError.
func OpenSpool(dir string, limit int64) (*Spool, error) {
	d, err := fs.MakeOS(dir)
	if err != nil {
		return nil, fmt.Errorf("producer: open spool: %w", err)
	}
	s, err := openSpool(d, limit)
	if err != nil {
		_ = d.Close()
		return nil, err
	}
	return s, nil
}

// Len is how many messages the spool holds.
func (s *Spool) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live)
}

// Refused is how many messages have gone to the file of refused ones since the
// spool was opened.
func (s *Spool) Refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// Torn is how many bytes of an unfinished message OpenSpool set aside.
func (s *Spool) Torn() int64 { return s.torn }

// Close closes the files. What the spool holds stays there.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.f.Close()
	if s.lock != nil {
		if e := s.lock.Close(); err == nil {
			err = e
		}
	}
	if e := s.dir.Close(); err == nil {
		err = e
	}
	return err
}

func (s *Spool) holds(k key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[k] > 0
}

// add keeps a message. It is on disk when add returns.
func (s *Spool) add(m *message.Message, k key) error {
	payload, err := encodeSpooled(m)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return message.ErrClosed
	case s.bad != nil:
		return s.bad
	}
	size := int64(frameHead + len(payload))
	if s.end+size > s.limit {
		return &message.SizeError{What: "spool", Size: s.end + size, Limit: s.limit}
	}
	off := s.end
	if err := s.writeLocked(frame(frameMessage, s.seq+1, payload), true); err != nil {
		return err
	}
	s.seq++
	s.noteLocked(spooled{seq: s.seq, off: off, size: size, key: k})
	return nil
}

func (s *Spool) noteLocked(e spooled) {
	s.live = append(s.live, e)
	s.bytes += e.size
	s.keys[e.key]++
}

// writeLocked appends bytes. After an error nobody knows what is in the file, so
// nothing more is written.
func (s *Spool) writeLocked(b []byte, sync bool) error {
	_, err := s.f.WriteAt(b, s.end)
	if err == nil && sync {
		err = s.f.SyncData()
	}
	if err != nil {
		s.bad = fmt.Errorf("producer: spool %s: %w", s.dir.Path(spoolName), err)
		return s.bad
	}
	s.end += int64(len(b))
	return nil
}

// snapshot is what there is to send.
func (s *Spool) snapshot() []spooled {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]spooled(nil), s.live...)
}

// read returns a message. Only one pass over the spool runs at a time, and it
// alone moves what is live, so e is still there.
func (s *Spool) read(e spooled) (*message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, message.ErrClosed
	}
	b := make([]byte, e.size)
	if _, err := s.f.ReadAt(b, e.off); err != nil {
		return nil, fmt.Errorf("producer: spool: %w", err)
	}
	_, seq, payload, ok := parseFrame(b)
	if !ok || seq != e.seq {
		return nil, &message.CorruptError{Path: s.dir.Path(spoolName), Offset: e.off, Reason: "a message's checksum differs"}
	}
	return decodeSpooled(payload)
}

// remove takes a message out: durable with the next tidy.
func (s *Spool) remove(e spooled) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad != nil {
		return s.bad
	}
	if err := s.writeLocked(frame(frameDone, e.seq, nil), false); err != nil {
		return err
	}
	for i := range s.live {
		if s.live[i].seq == e.seq {
			s.live = append(s.live[:i], s.live[i+1:]...)
			break
		}
	}
	s.bytes -= e.size
	if s.keys[e.key]--; s.keys[e.key] == 0 {
		delete(s.keys, e.key)
	}
	return nil
}

// mustFollow reports whether a message has to go into the spool because earlier
// ones of its key are there.
func (p *Producer) mustFollow(s *send) bool {
	return p.o.spool != nil && !s.again && s.keyed() && p.o.spool.holds(s.key())
}

// keep gives a failed send to the spool, if there is one. It returns what the
// caller is told.
func (p *Producer) keep(s *send, err error) error {
	if p.o.spool == nil || s.again || isFault(err) {
		return err
	}
	m := s.m
	if m.Delay > 0 { // it counts from now, not from when it is sent again
		m.DeliverAt, m.Delay = p.o.clock.Now().Add(m.Delay).Round(0), 0
	}
	if e := p.o.spool.add(&m, s.key()); e != nil {
		return fmt.Errorf("%w; not kept in the spool: %w", err, e)
	}
	return fmt.Errorf("%w; %w", err, ErrSpooled)
}

// keepAll keeps the rest of a batch, in order.
func (p *Producer) keepAll(ss []*send, err error) error {
	told := err
	for i, s := range ss {
		e := err
		if i > 0 && !isFault(err) {
			e = ErrPrecedingFailed
		}
		if kept := p.keep(s, e); i == 0 {
			told = kept
		}
	}
	return told
}

// resendByTimer goes over the spool every so often.
func (p *Producer) resendByTimer() {
	for {
		up, stop := p.o.clock.After(p.o.resend)
		select {
		case <-p.closing:
			stop()
			return
		case <-up:
		}
		if p.o.spool.Len() > 0 {
			_, _ = p.Resend(context.Background()) // what fails stays, and is tried again
		}
	}
}

// roundTime is a time without its monotonic part, as a file keeps it.
func roundTime(t time.Time) time.Time { return t.Round(0) }
