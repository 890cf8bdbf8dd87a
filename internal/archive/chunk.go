package archive

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/embermq/embermq/internal/fs"
)

// piece is how many bytes are read and compressed at a time, and how often a
// context is asked.
const piece = 1 << 20

// WriteLog adds the log's bytes [from, to), which it gets from read. It counts
// with the Commit of a manifest that names it.
func (a *Archive) WriteLog(ctx context.Context, from, to int64, read func(p []byte, at int64) error) (Chunk, error) {
	c := Chunk{From: from, To: to}
	err := a.write(c.name(), func(w io.Writer) error {
		buf := make([]byte, piece)
		for at := from; at < to; {
			if err := ctx.Err(); err != nil {
				return err
			}
			p := buf[:min(piece, to-at)]
			if err := read(p, at); err != nil {
				return err
			}
			if _, err := w.Write(p); err != nil {
				return err
			}
			at += int64(len(p))
		}
		return nil
	})
	return c, err
}

// ReadLog passes the log's bytes [Start, End) to f, in order and in pieces that
// are lent.
func (a *Archive) ReadLog(ctx context.Context, f func(p []byte, at int64) error) error {
	for _, c := range a.m.Chunks {
		if err := a.readChunk(ctx, c, f); err != nil {
			return err
		}
	}
	return nil
}

func (a *Archive) readChunk(ctx context.Context, c Chunk, f func(p []byte, at int64) error) error {
	return a.read(c.name(), func(r io.Reader) error {
		buf := make([]byte, piece)
		for at := c.From; ; {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := io.ReadFull(r, buf)
			p := buf[:n]
			if skip := min(max(a.m.Start-at, 0), int64(n)); n > 0 && at+int64(n) <= c.To && skip < int64(n) {
				if err := f(p[skip:], at+skip); err != nil {
					return err
				}
			}
			at += int64(n)
			switch {
			case at > c.To || err != nil && at < c.To && ended(err):
				return &DamageError{Path: a.fs.Path(c.name()), Reason: fmt.Sprintf("does not hold %d bytes", c.To-c.From)}
			case err != nil && ended(err):
				return nil
			case err != nil:
				return err
			}
		}
	})
}

func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// write makes a compressed file and syncs it. A leftover of the name goes first.
func (a *Archive) write(name string, fill func(w io.Writer) error) error {
	if err := fs.RemoveAll(a.fs, name); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	f, err := a.fs.Open(name, fs.Create|fs.Exclusive)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	out := &sequential{f: f}
	z, err := zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err == nil {
		err = fill(z)
		err = errors.Join(err, z.Close())
	}
	if err == nil {
		err = f.Sync()
	}
	a.Written += out.at
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("archive: write %s: %w", a.fs.Path(name), err)
	}
	return nil
}

// read opens a compressed file. What the decoder finds wrong is a *DamageError.
func (a *Archive) read(name string, use func(r io.Reader) error) error {
	f, err := a.fs.Open(name, fs.ReadOnly)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	size, err := f.Size()
	if err != nil {
		return errors.Join(fmt.Errorf("archive: %w", err), f.Close())
	}
	z, err := zstd.NewReader(io.NewSectionReader(f, 0, size), zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(16<<20))
	if err == nil {
		err = use(&judge{r: z, path: a.fs.Path(name)})
		z.Close()
	}
	return errors.Join(err, f.Close())
}

// sequential is an io.Writer over WriteAt.
type sequential struct {
	f  fs.File
	at int64
}

func (s *sequential) Write(p []byte) (int, error) {
	n, err := s.f.WriteAt(p, s.at)
	s.at += int64(n)
	return n, err
}

// judge turns the decoder's errors into damage.
type judge struct {
	r    io.Reader
	path string
}

func (j *judge) Read(p []byte) (int, error) {
	n, err := j.r.Read(p)
	if err != nil && !ended(err) {
		err = &DamageError{Path: j.path, Reason: err.Error()}
	} else if errors.Is(err, io.ErrUnexpectedEOF) {
		err = &DamageError{Path: j.path, Reason: "is cut short"}
	}
	return n, err
}
