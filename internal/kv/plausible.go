package kv

import (
	"errors"
	"fmt"
	iofs "io/fs"

	"github.com/embermq/embermq/internal/fs"
)

// maxFile is several times the longest file that Pebble makes with our options.
const maxFile = 1 << 30

// plausible refuses a folder with a file so long that Pebble would read it for hours:
// it reads its logs and manifests to their end.
func plausible(fsys fs.FS) error {
	list, err := fsys.List(".")
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return typed("open", err)
	}
	for _, e := range list {
		if !e.Dir && e.Size > maxFile {
			return fmt.Errorf("kv: open: %w: %s has %d bytes", ErrCorrupt, fsys.Path(e.Name), e.Size)
		}
	}
	return nil
}
