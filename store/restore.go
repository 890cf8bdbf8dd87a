package store

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/internal/archive"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
)

// Restore makes the directory to from a backup. It must be empty or missing;
// Open then rebuilds queues, index and the other views from the log. The
// directory is durable and closed cleanly when Restore returns, and no store
// after an error. Options that agree with the backup's file sizes may be given,
// and those that place folders elsewhere.
//
// The errors are ErrNotFound for a folder without a backup, *CorruptError for a
// damaged one, ErrExists for a directory that is not empty, and those of reading
// and writing.
func Restore(ctx context.Context, from, to string, opts ...Option) (err error) {
	c, err := newConfig(opts)
	if err != nil {
		return err
	}
	folder, err := c.env.Open(from, false)
	if errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("store: no backup in %s: %w", from, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("store: open %s: %w", from, err)
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	a, err := archive.Open(folder, false)
	if err != nil {
		return archived(err)
	}
	m := a.Manifest()
	f, foreign, err := readFacts(folder.Path("."), m.Facts)
	if err != nil {
		return err
	}
	l := &layer{cfg: c, format: f, foreign: foreign, start: m.Start,
		end: message.Mark{Offset: m.End, Fingerprint: m.Fingerprint}}
	return archived(l.lay(ctx, to, func(y *commitlog.Layout, meta *rowWriter) error {
		if err := a.ReadRows(ctx, func(r archive.Row) error { return meta.set(ctx, r.Key, r.Value) }); err != nil {
			return err
		}
		return a.ReadLog(ctx, y.Write)
	}))
}

func readFacts(path string, facts []string) (f format, foreign []commitlog.Range, err error) {
	var text strings.Builder
	for _, fact := range facts {
		if line, ok := strings.CutPrefix(fact, factFormat); ok {
			text.WriteString(line + "\n")
		}
		if line, ok := strings.CutPrefix(fact, factForeign); ok {
			var r commitlog.Range
			if _, err := fmt.Sscanf(line, "%d %d", &r.From, &r.To); err != nil {
				return f, nil, &CorruptError{Path: path, Reason: "line of a foreign range: " + err.Error()}
			}
			foreign = append(foreign, r)
		}
	}
	f, err = decodeFormat(path, []byte(text.String()))
	return f, foreign, err
}

// layer makes a directory of a log and the rows of meta. FORMAT comes last:
// without it the directory is no store.
type layer struct {
	cfg     *config
	format  format
	foreign []commitlog.Range
	start   int64
	end     message.Mark
}

func (l *layer) lay(ctx context.Context, to string, fill func(y *commitlog.Layout, meta *rowWriter) error) (err error) {
	s := &Store{cfg: l.cfg, format: l.format}
	defer func() { err = errors.Join(err, s.releaseFolders()) }()
	if err := s.openRoot(to, true); err != nil {
		return err
	}
	if s.lock, err = takeLock(s.root); err != nil {
		return err
	}
	if err := l.empty(s, to); err != nil {
		return err
	}
	if err := s.makeFolders(); err != nil {
		return err
	}
	db, err := kv.Open(s.metaFS, kv.Options{Clock: l.cfg.env.Clock})
	if err != nil {
		return mapMeta(err)
	}
	meta := &rowWriter{db: db}
	y := &commitlog.Layout{Log: s.logFS, State: s.state, SegmentSize: l.format.segmentSize, MaxUnsynced: l.cfg.maxUnsynced, Start: l.start}
	err = fill(y, meta)
	if err == nil {
		err = meta.flush(ctx)
	}
	if err = errors.Join(err, mapMeta(db.Close())); err != nil {
		return errors.Join(err, y.Close())
	}
	if err := writeForeign(s.state, nil, l.foreign, false); err != nil {
		return errors.Join(err, y.Close())
	}
	if err := y.Finish(l.end); err != nil {
		return err
	}
	return writeFormat(s.state, l.format)
}

// empty demands a directory in which nothing is, and options that agree.
func (l *layer) empty(s *Store, to string) error {
	if err := l.format.agree(l.cfg); err != nil {
		return err
	}
	if err := s.openFolders(to, true); err != nil {
		return err
	}
	entries, err := s.root.List(".")
	if err != nil {
		return fmt.Errorf("store: list %s: %w", to, err)
	}
	for _, e := range entries {
		if e.Name != "lock" && e.Name != "lost+found" {
			return fmt.Errorf("store: %s holds %q: %w", to, e.Name, ErrExists)
		}
	}
	return nil
}

// rowWriter fills a key-value store in batches.
type rowWriter struct {
	db *kv.DB
	b  kv.Batch
}

func (w *rowWriter) set(ctx context.Context, key, value []byte) error {
	w.b.Set(key, value)
	if w.b.Size() < 1<<20 {
		return nil
	}
	return w.flush(ctx)
}

func (w *rowWriter) flush(ctx context.Context) error {
	if w.b.Len() == 0 {
		return nil
	}
	err := w.db.Apply(ctx, &w.b, true)
	w.b.Reset()
	return mapMeta(err)
}
