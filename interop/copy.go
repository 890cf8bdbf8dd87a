package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/embermq/embermq/internal/fs"
)

// theirs are the parts of a directory that RocketMQ knows.
var theirs = []string{"commitlog", "consumequeue", "index", "checkpoint"}

// copyStore copies RocketMQ's part of a directory. Holes stay holes.
func copyStore(ctx context.Context, dir, out string) (err error) {
	from, err := fs.OS(dir)
	if err != nil {
		return fmt.Errorf("interop: open %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := fs.MakeOS(out)
	if err != nil {
		return fmt.Errorf("interop: open %s: %w", out, err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if es, err := to.List("."); err != nil || len(es) > 0 {
		return errors.Join(fmt.Errorf("interop: %s is not empty", out), err)
	}
	for _, name := range theirs {
		err := copyTree(ctx, from, to, name)
		if errors.Is(err, os.ErrNotExist) && name == "checkpoint" {
			continue // a store without messages has none, and RocketMQ makes its own
		}
		if err != nil {
			return fmt.Errorf("interop: copy %s: %w", from.Path(name), err)
		}
	}
	return to.SyncDir(".")
}

func copyTree(ctx context.Context, from, to fs.FS, name string) error {
	e, err := from.Stat(name)
	if err != nil || !e.Dir {
		if err == nil {
			err = copyFile(ctx, from, to, name)
		}
		return err
	}
	if err := to.MkdirAll(name); err != nil {
		return err
	}
	es, err := from.List(name)
	if err != nil {
		return err
	}
	for _, e := range es {
		if err := copyTree(ctx, from, to, path.Join(name, e.Name)); err != nil {
			return err
		}
	}
	return to.SyncDir(name)
}

func copyFile(ctx context.Context, from, to fs.FS, name string) error {
	src, err := from.Open(name, fs.ReadOnly)
	if err != nil {
		return err
	}
	size, err := src.Size()
	if err == nil {
		err = writeSparse(to, name, size, func(dst fs.File) error { return copyData(ctx, src, dst) })
	}
	return errors.Join(err, src.Close())
}

func copyData(ctx context.Context, src, dst fs.File) error {
	buf := make([]byte, 1<<20)
	for at := int64(0); ; {
		start, end, err := src.NextData(at)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		for at = start; at < end; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := src.ReadAt(buf[:min(int64(len(buf)), end-at)], at)
			if n == 0 {
				return err
			}
			if _, err := dst.WriteAt(buf[:n], at); err != nil {
				return err
			}
			at += int64(n)
		}
	}
}

// readFormat reads the lines of ember/FORMAT.
func readFormat(dir string) (map[string]string, error) {
	f, err := fs.OS(dir)
	if err != nil {
		return nil, fmt.Errorf("interop: open %s: %w", dir, err)
	}
	b, err := fs.Read(f, "ember/FORMAT")
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("interop: read the sizes of %s: %w", dir, err)
	}
	values := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			values[k] = v
		}
	}
	return values, nil
}
