package store

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"path"

	"github.com/embermq/embermq/internal/fs"
)

// take moves a file, or what is in a folder, into the folder of this repair. It
// copies, because the folder may be on another disk, and removes only what has
// been copied and synced.
func (m *storeMender) take(fsys fs.FS, name string) error {
	e, err := fsys.Stat(name)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	to := m.aside + "/" + path.Join(path.Base(fsys.Path(".")), name)
	if err := m.copy(fsys, name, to, e); err != nil {
		return err
	}
	if !e.Dir {
		return errors.Join(fsys.Remove(name), fsys.SyncDir("."))
	}
	entries, err := fsys.List(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := fs.RemoveAll(fsys, path.Join(name, e.Name)); err != nil {
			return err
		}
	}
	return fsys.SyncDir(name)
}

func (m *storeMender) copy(fsys fs.FS, name, to string, e fs.Entry) error {
	if e.Link {
		return nil // it holds no bytes of ours
	}
	if !e.Dir {
		return m.copyFile(fsys, name, to)
	}
	entries, err := fsys.List(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := m.copy(fsys, path.Join(name, e.Name), to+"/"+e.Name, e); err != nil {
			return err
		}
	}
	return nil
}

func (m *storeMender) copyFile(fsys fs.FS, name, to string) error {
	from, err := fsys.Open(name, fs.ReadOnly)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	into, err := m.create(to)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for at := int64(0); err == nil; {
		var n int
		n, err = from.ReadAt(buf, at)
		if n > 0 {
			if _, werr := into.WriteAt(buf[:n], at); werr != nil {
				err = werr
			}
		}
		at += int64(n)
	}
	if errors.Is(err, io.EOF) {
		err = into.Sync()
	}
	return errors.Join(err, into.Close(), m.s.state.SyncDir(path.Dir(to)))
}

// create makes a file below the folder of this repair; its name is durable when
// the caller has synced the folder it is in.
func (m *storeMender) create(name string) (fs.File, error) {
	if err := m.s.state.MkdirAll(path.Dir(name)); err != nil {
		return nil, err
	}
	for dir := path.Dir(path.Dir(name)); ; dir = path.Dir(dir) {
		if err := m.s.state.SyncDir(dir); err != nil {
			return nil, err
		}
		if dir == "." {
			break
		}
	}
	m.kept = true
	return m.s.state.Open(name, fs.Create|fs.Exclusive)
}

// keepLog stores bytes of a segment, in a file for each stretch, and syncs them.
func (m *storeMender) keepLog(name string, at int64, p []byte) error {
	if m.piece == nil || name != m.name || at != m.next {
		if err := m.endPiece(); err != nil {
			return err
		}
		to := fmt.Sprintf("%s/%s/%s-%d", m.aside, dirLog, name, at)
		f, err := m.create(to)
		if err != nil {
			return err
		}
		m.piece, m.name, m.from, m.next = f, name, at, at
		if err := m.s.state.SyncDir(path.Dir(to)); err != nil {
			return err
		}
	}
	if _, err := m.piece.WriteAt(p, at-m.from); err != nil {
		return err
	}
	m.next = at + int64(len(p))
	return m.piece.Sync()
}

func (m *storeMender) endPiece() error {
	if m.piece == nil {
		return nil
	}
	err := m.piece.Close()
	m.piece = nil
	return err
}
