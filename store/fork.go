package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/internal/fs"
)

// Fork makes the directory to, which must be empty or missing, a store of its own
// with everything that was acknowledged before the call: topics, messages,
// groups, offsets, waiting timers. On the same file system the sealed segments
// are hard links, so a fork costs little time and room: a handler can be tried on
// the exact past while the original goes on. What is put into one of the two is
// not seen in the other. Both are whole stores: a timer fires in each.
//
// The fork is durable and closed cleanly when Fork returns, and no store after
// an error. Retention pauses meanwhile. The errors are those of Backup and
// Restore.
func (s *Store) Fork(ctx context.Context, to string) error {
	if err := s.writable(); err != nil {
		return err
	}
	release := s.pin()
	defer release()
	if err := s.Sync(ctx); err != nil {
		return err
	}
	c := *s.cfg
	c.folders = Folders{}
	l := &layer{cfg: &c, format: s.format, foreign: s.log.Recovery().Foreign, start: s.log.Start()}
	return l.lay(ctx, to, func(y *commitlog.Layout, meta *rowWriter) error {
		for row, err := range s.primaryRows() {
			if err == nil {
				err = meta.set(ctx, row.Key, row.Value)
			}
			if err != nil {
				return err
			}
		}
		if err := s.log.Sync(ctx); err != nil {
			return err
		}
		l.end = s.log.LastMark()
		return s.copyLog(ctx, y, to, l.end.Offset)
	})
}

// copyLog links what will never change any more and copies the rest.
func (s *Store) copyLog(ctx context.Context, y *commitlog.Layout, to string, end int64) error {
	links := s.linker(to)
	defer links.close()
	buf := make([]byte, 1<<20)
	for _, seg := range s.log.Segments() {
		sealed := seg.Base+seg.Size <= end
		if sealed && links.link(seg.Base) {
			continue
		}
		for at := seg.Base; at < min(end, seg.Base+seg.Size); {
			if err := ctx.Err(); err != nil {
				return err
			}
			p := buf[:min(int64(len(buf)), min(end, seg.Base+seg.Size)-at)]
			if err := s.log.CopyOut(p, at); err != nil {
				return err
			}
			if err := y.Write(p, at); err != nil {
				return err
			}
			at += int64(len(p))
		}
	}
	return nil
}

// linker gives segments a second name in another directory. Its root is the
// folder above both.
type linker struct {
	root     fs.FS
	from, to string
}

func (s *Store) linker(to string) *linker {
	abs, err := filepath.Abs(to)
	if err != nil {
		return &linker{}
	}
	from, to := s.logFS.Path("."), filepath.Join(abs, dirLog)
	above := commonFolder(from, to)
	a, aerr := filepath.Rel(above, from)
	b, berr := filepath.Rel(above, to)
	root, err := s.cfg.env.Open(above, false)
	if err = errors.Join(err, aerr, berr); err != nil {
		return &linker{}
	}
	return &linker{root: root, from: filepath.ToSlash(a), to: filepath.ToSlash(b)}
}

// link reports whether it could: other file systems, and those without links,
// need a copy.
func (k *linker) link(base int64) bool {
	if k.root == nil {
		return false
	}
	name := fmt.Sprintf("/%020d", base)
	return k.root.Link(k.from+name, k.to+name) == nil
}

func (k *linker) close() {
	if k.root != nil {
		_ = k.root.Close()
	}
}

func commonFolder(a, b string) string {
	for !strings.HasPrefix(b+string(filepath.Separator), strings.TrimSuffix(a, string(filepath.Separator))+string(filepath.Separator)) {
		up := filepath.Dir(a)
		if up == a {
			break
		}
		a = up
	}
	return a
}
