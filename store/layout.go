package store

import (
	"errors"
	"fmt"
	"io"
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

	syncedName = "synced" // in dirState: the log's watermark
)

// folders are the roots that the rooms work in.
type folders struct {
	root, state, logFS, queueFS, indexFS, metaFS fs.FS
	opened                                       []fs.FS // to close, last first
}

// openRoot opens the directory itself.
func (s *Store) openRoot(dir string, create bool) error {
	root, err := s.cfg.env.Open(dir, create)
	if err != nil {
		return fmt.Errorf("store: open %s: %w", dir, err)
	}
	s.opened = append(s.opened, root)
	s.root, s.state = root, root.Sub(dirState)
	return nil
}

// openFolders opens those that options place elsewhere. Of a store that is there
// already none is made that cannot be rebuilt: it is on a disk that is not mounted.
func (s *Store) openFolders(dir string, isNew bool) error {
	for _, f := range []struct {
		into     *fs.FS
		at, name string
		primary  bool
	}{
		{&s.logFS, s.cfg.folders.CommitLog, dirLog, true},
		{&s.queueFS, s.cfg.folders.ConsumeQueue, dirQueues, false},
		{&s.indexFS, s.cfg.folders.Index, dirIndex, false},
		{&s.metaFS, s.cfg.folders.Meta, dirState + "/" + dirMeta, true},
	} {
		if f.at == "" {
			*f.into = s.root.Sub(f.name)
			continue
		}
		if !filepath.IsAbs(f.at) {
			f.at = filepath.Join(dir, f.at)
		}
		other, err := s.cfg.env.Open(f.at, !s.cfg.readOnly && isNew)
		if errors.Is(err, iofs.ErrNotExist) && !isNew && !f.primary && !s.cfg.readOnly {
			s.queuesGone = s.queuesGone || f.name == dirQueues
			other, err = s.cfg.env.Open(f.at, true)
		}
		if errors.Is(err, iofs.ErrNotExist) && !isNew {
			return &MissingError{Folder: f.name, Path: f.at}
		}
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

// vacant refuses to make a store in a directory that holds something else. What a
// process left that died while it made one is no obstacle.
func (s *Store) vacant() error {
	entries, err := s.root.List(".")
	if err != nil {
		return fmt.Errorf("store: list %s: %w", s.root.Path("."), err)
	}
	_, err = s.state.Stat(syncedName)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("store: look for %s: %w", s.state.Path(syncedName), err)
	}
	begun := err == nil // by us
	for _, e := range entries {
		switch e.Name {
		case dirState, dirLog, dirQueues, dirIndex, "lock", "lost+found", abortName:
			continue
		case "checkpoint", "config":
			if begun {
				continue
			}
		}
		return fmt.Errorf("store: %s is neither empty nor a store (it holds %q): %w", s.root.Path("."), e.Name, ErrUnknownFormat)
	}
	for _, f := range []fs.FS{s.logFS, s.queueFS, s.indexFS} {
		entries, err := f.List(".")
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return fmt.Errorf("store: list %s: %w", f.Path("."), err)
		}
		for _, e := range entries {
			if !begun {
				return fmt.Errorf("store: %s holds files of another program: %w", f.Path("."), ErrUnknownFormat)
			}
			if used, err := inUse(f, e); err != nil {
				return fmt.Errorf("store: read %s: %w", f.Path(e.Name), err)
			} else if used {
				return &CorruptError{Path: s.state.Path(formatName), Reason: "missing, although " + f.Path(e.Name) + " is in use"}
			}
		}
	}
	return nil
}

// inUse reports whether a file holds anything: one made ahead begins with zeros.
func inUse(f fs.FS, e fs.Entry) (bool, error) {
	if e.Dir {
		return true, nil
	}
	file, err := f.Open(e.Name, fs.ReadOnly)
	if err != nil {
		return false, err
	}
	var head [64]byte
	n, err := file.ReadAt(head[:], 0)
	if err == io.EOF {
		err = nil
	}
	return n > 0 && head != [64]byte{}, errors.Join(err, file.Close())
}

// present refuses a store of which a part is not there that cannot be rebuilt: a
// forgotten mount must not restart every group at the first message.
func (s *Store) present() error {
	if _, err := s.logFS.Stat("."); errors.Is(err, iofs.ErrNotExist) {
		return &MissingError{Folder: dirLog, Path: s.logFS.Path(".")}
	} else if err != nil {
		return fmt.Errorf("store: look for %s: %w", s.logFS.Path("."), err)
	}
	entries, err := s.metaFS.List(".")
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("store: list %s: %w", s.metaFS.Path("."), err)
	}
	if len(entries) == 0 {
		return &MissingError{Folder: dirState + "/" + dirMeta, Path: s.metaFS.Path(".")}
	}
	if s.cfg.readOnly || s.cfg.acceptLog {
		return nil
	}
	if _, err := s.state.Stat(syncedName); errors.Is(err, iofs.ErrNotExist) {
		return &CorruptError{Path: s.state.Path(syncedName), Reason: "missing"}
	} else if err != nil {
		return fmt.Errorf("store: look for %s: %w", s.state.Path(syncedName), err)
	}
	return nil
}

// lostLog tells a log that is gone as a whole from one that is damaged: an empty
// folder is a disk that is not mounted.
func (s *Store) lostLog(err error) error {
	if !errors.Is(err, ErrCorrupt) {
		return err
	}
	if entries, lerr := s.logFS.List("."); lerr == nil && len(entries) == 0 {
		return &MissingError{Folder: dirLog, Path: s.logFS.Path(".")}
	}
	return err
}
