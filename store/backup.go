package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/embermq/embermq/internal/archive"
	"github.com/embermq/embermq/message"
)

// What a backup is made of besides log and rows, as lines of its manifest.
const (
	factFormat  = "format "
	factForeign = "foreign "
)

// primaryPrefix begins the keys of meta that the log cannot give back.
const primaryPrefix = "p/"

// BackupReport says what a Backup has done.
type BackupReport struct {
	Start, End int64 // the log positions that the backup holds
	Copied     int64 // bytes of the log that were new
	Written    int64 // bytes written to the backup folder
}

// Backup copies the store into the folder to while it goes on working. The first
// time it copies everything, compressed; later only what has been added since,
// and it lets go of what retention has removed. The backup holds every message,
// topic, group and committed offset that was acknowledged before the call, and is
// durable when Backup returns; Restore makes a directory of it. Until then, and
// after an error or an ended ctx, the folder holds the backup before.
//
// Retention pauses meanwhile. The errors are ErrMismatch for a folder with the
// backup of another store, or of this one before it lost its tail,
// ErrUnknownFormat for a folder that holds something else, ErrCorrupt for a damaged
// one, ErrReadOnly, ErrClosed, and those of reading and writing.
func (s *Store) Backup(ctx context.Context, to string) (r BackupReport, err error) {
	if err := s.writable(); err != nil {
		return r, err
	}
	folder, err := s.cfg.env.Open(to, true)
	if err != nil {
		return r, fmt.Errorf("store: open %s: %w", to, err)
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	a, err := archive.Open(folder, true)
	if err != nil {
		return r, archived(err)
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	release := s.pin()
	defer release()
	r, err = s.backup(ctx, a)
	return r, archived(err)
}

// backup takes the rows before the log's end: whatever a row speaks of, the log
// then holds.
func (s *Store) backup(ctx context.Context, a *archive.Archive) (r BackupReport, err error) {
	m := a.Manifest()
	if len(m.Chunks) > 0 {
		ok, err := s.log.MarkMatches(message.Mark{Offset: m.End, Fingerprint: m.Fingerprint})
		if m.End >= s.log.Start() && (err != nil || !ok) {
			return r, errors.Join(fmt.Errorf("store: the backup ends at %d with another record than the log has there: %w", m.End, ErrMismatch), err)
		}
	}
	if err := s.Sync(ctx); err != nil {
		return r, err
	}
	if m.Rows, err = a.WriteRows(ctx, s.primaryRows()); err != nil {
		return r, err
	}
	if err := s.log.Sync(ctx); err != nil {
		return r, err
	}
	end := s.log.LastMark()
	from := m.End
	m.Start, m.End, m.Fingerprint = s.log.Start(), end.Offset, end.Fingerprint
	if from < m.Start {
		m.Chunks, from = nil, m.Start
	}
	for from < m.End {
		to := min(m.End, from-from%s.format.segmentSize+s.format.segmentSize)
		c, err := a.WriteLog(ctx, from, to, s.log.CopyOut)
		if err != nil {
			return r, err
		}
		m.Chunks = append(m.Chunks, c)
		r.Copied += to - from
		from = to
	}
	for len(m.Chunks) > 0 && m.Chunks[0].To <= m.Start {
		m.Chunks = m.Chunks[1:]
	}
	m.Facts = s.facts()
	if err := a.Commit(m); err != nil {
		return r, err
	}
	r.Start, r.End, r.Written = m.Start, m.End, a.Written
	return r, nil
}

// primaryRows is what of meta the log cannot give back.
func (s *Store) primaryRows() iter.Seq2[archive.Row, error] {
	return func(yield func(archive.Row, error) bool) {
		for kv, err := range s.db.Scan([]byte(primaryPrefix), prefixEnd(primaryPrefix)) {
			if !yield(archive.Row{Key: kv.Key, Value: kv.Value}, mapMeta(err)) || err != nil {
				return
			}
		}
	}
}

// facts are the lines that Restore needs of the store itself.
func (s *Store) facts() (out []string) {
	for line := range strings.Lines(string(s.format.encode())) {
		out = append(out, factFormat+strings.TrimSuffix(line, "\n"))
	}
	for _, r := range s.log.Recovery().Foreign {
		out = append(out, fmt.Sprintf("%s%d %d", factForeign, r.From, r.To))
	}
	return out
}

// pin keeps every segment until it is released: it waits for an expiry that is
// under way, and none begins.
func (s *Store) pin() (release func()) {
	s.pins.Add(1)
	s.expiring.Lock()
	defer s.expiring.Unlock()
	return func() { s.pins.Add(-1) }
}

// archived turns the errors of the archive into the store's own.
func archived(err error) error {
	var damage *archive.DamageError
	switch {
	case errors.As(err, &damage):
		return &CorruptError{Path: damage.Path, Reason: damage.Reason, Err: err}
	case errors.Is(err, archive.ErrForeign):
		return fmt.Errorf("store: %w: %w", ErrUnknownFormat, err)
	case errors.Is(err, archive.ErrNone):
		return fmt.Errorf("store: %w: %w", ErrNotFound, err)
	}
	return err
}
