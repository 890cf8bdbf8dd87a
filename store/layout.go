package store

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"path/filepath"

	"github.com/embermq/embermq/internal/fs"
)

// The folders of a directory. RocketMQ's own names hold only what it expects
// there: a stray file makes its loader refuse the directory.
const (
	dirLog    = "commitlog"
	dirQueues = "consumequeue"
	dirIndex  = "index"
	dirState  = "ember"
	dirMeta   = "meta" // below dirState
)

// folders are the roots that the rooms work in.
type folders struct {
	root, state, logFS, queueFS, indexFS, metaFS fs.FS
	opened                                       []fs.FS // to close, last first
}

// openFolders opens the directory and those that options place elsewhere.
func (s *Store) openFolders(dir string, create bool) error {
	root, err := s.cfg.env.Open(dir, create)
	if err != nil {
		return fmt.Errorf("store: open %s: %w", dir, err)
	}
	s.opened = append(s.opened, root)
	s.root, s.state = root, root.Sub(dirState)
	for _, f := range []struct {
		into     *fs.FS
		at, name string
	}{
		{&s.logFS, s.cfg.folders.CommitLog, dirLog},
		{&s.queueFS, s.cfg.folders.ConsumeQueue, dirQueues},
		{&s.indexFS, s.cfg.folders.Index, dirIndex},
		{&s.metaFS, s.cfg.folders.Meta, dirState + "/" + dirMeta},
	} {
		if f.at == "" {
			*f.into = root.Sub(f.name)
			continue
		}
		if !filepath.IsAbs(f.at) {
			f.at = filepath.Join(dir, f.at)
		}
		other, err := s.cfg.env.Open(f.at, create)
		if err != nil {
			return fmt.Errorf("store: open %s: %w", f.at, err)
		}
		s.opened = append(s.opened, other)
		*f.into = other
	}
	return nil
}

func (s *Store) releaseFolders() error {
	var errs []error
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	for i := len(s.opened) - 1; i >= 0; i-- {
		errs = append(errs, s.opened[i].Close())
	}
	s.opened = nil
	return errors.Join(errs...)
}

// makeFolders lays out a new directory. FORMAT comes last: a directory without
// it was never in use.
func (s *Store) makeFolders() error {
	if err := s.root.MkdirAll(dirState); err != nil {
		return fmt.Errorf("store: make %s: %w", s.root.Path(dirState), err)
	}
	for _, f := range []fs.FS{s.logFS, s.queueFS, s.indexFS, s.metaFS} {
		if err := f.MkdirAll("."); err != nil {
			return fmt.Errorf("store: make %s: %w", f.Path("."), err)
		}
	}
	for _, f := range []fs.FS{s.root, s.state} {
		if err := f.SyncDir("."); err != nil {
			return fmt.Errorf("store: sync %s: %w", f.Path("."), err)
		}
	}
	return nil
}

// inspect tells a new directory from a store and from something else.
func (s *Store) inspect() (isNew bool, err error) {
	f, found, err := readFormat(s.state)
	if err != nil {
		return false, err
	}
	if found {
		s.format = f
		if err := f.agree(s.cfg); err != nil {
			return false, err
		}
		return false, s.present()
	}
	entries, err := s.root.List(".")
	if err != nil {
		return false, fmt.Errorf("store: list %s: %w", s.root.Path("."), err)
	}
	for _, e := range entries {
		switch {
		case e.Name == dirState, e.Name == "lock", e.Name == "lost+found", e.Name == abortName:
		case e.Dir && (e.Name == dirLog || e.Name == dirQueues || e.Name == dirIndex):
			inside, err := s.root.List(e.Name)
			if err != nil {
				return false, fmt.Errorf("store: list %s: %w", s.root.Path(e.Name), err)
			}
			if len(inside) > 0 {
				return false, fmt.Errorf("store: %s holds %s of another program: %w", s.root.Path("."), e.Name, ErrUnknownFormat)
			}
		default:
			return false, fmt.Errorf("store: %s is neither empty nor a store (it holds %q): %w", s.root.Path("."), e.Name, ErrUnknownFormat)
		}
	}
	s.format = newFormat(s.cfg)
	return true, nil
}

// present refuses a store whose log or meta is not there: a forgotten mount
// must not restart every group at the first message.
func (s *Store) present() error {
	for _, f := range []struct {
		name string
		at   fs.FS
		file string
	}{{dirLog, s.logFS, "."}, {dirState + "/" + dirMeta, s.metaFS, "."}} {
		entries, err := f.at.List(".")
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return fmt.Errorf("store: list %s: %w", f.at.Path("."), err)
		}
		if err != nil || (len(entries) == 0 && f.name != dirLog) {
			return &MissingError{Folder: f.name, Path: f.at.Path(".")}
		}
	}
	return nil
}
