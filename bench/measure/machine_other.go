//go:build !linux

package measure

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
)

func (m *Machine) platform(string) { m.CPU = fmt.Sprintf("%d × %s", m.Cores, runtime.GOARCH) }

// Blocks is how many bytes the files of a folder hold.
func Blocks(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}

// DeviceBytes is how much was written to a folder's device: unknown here.
func DeviceBytes(string) (int64, bool) { return 0, false }

// AnonymousBytes is the memory of this process that is not a file's: unknown here.
func AnonymousBytes() (int64, bool) { return 0, false }

// DropPages makes the system forget cached pages, which it cannot here.
func DropPages(string) error { return errors.ErrUnsupported }
