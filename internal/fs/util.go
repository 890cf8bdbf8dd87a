package fs

import (
	"errors"
	"io"
	iofs "io/fs"
	"path"
)

var errTooLong = errors.New("file is too long to be what its name says")

// maxRead is more than any file that is read whole ever has.
const maxRead = 64 << 20

// Read returns a whole file. One of more than 64 MiB is refused: whoever made it so
// long wants the memory of the process.
func Read(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name, ReadOnly)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if size > maxRead {
		return nil, errors.Join(&iofs.PathError{Op: "read", Path: fsys.Path(name), Err: errTooLong}, f.Close())
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if err == io.EOF {
		err = nil // it became shorter meanwhile
	}
	return b[:n], errors.Join(err, f.Close())
}

// WriteFile replaces or makes a file so that after a power cut at any moment
// the name has either its old bytes (or is missing, if it was) or all the new
// ones. When it returns nil the new ones are durable. Its scratch file is
// name+".tmp".
func WriteFile(fsys FS, name string, data []byte) error {
	tmp := name + ".tmp"
	// A leftover may be longer than data, and may have a second name: start anew.
	if err := fsys.Remove(tmp); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	f, err := fsys.Open(tmp, Create|Exclusive)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	// Invariant: the bytes are on disk before the name points at them.
	if err := fsys.Rename(tmp, name); err != nil {
		return err
	}
	return fsys.SyncDir(path.Dir(name))
}

// RemoveAll removes a file, or a folder with everything in it. A missing name is
// no error. The removal is not durable until SyncDir of the folder above. A
// symbolic link is removed, not followed.
func RemoveAll(fsys FS, name string) error {
	e, err := fsys.Stat(name)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if e.Dir {
		list, err := fsys.List(name)
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			return err
		}
		for _, c := range list {
			if err := RemoveAll(fsys, path.Join(name, c.Name)); err != nil {
				return err
			}
		}
	}
	if err := fsys.Remove(name); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	return nil
}
