package archive

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
)

// maxRow bounds what a damaged length can make the reader allocate.
const maxRow = 64 << 20

// Row is a key and its value.
type Row struct{ Key, Value []byte }

// WriteRows writes the rows of the next backup. They count with the Commit of a
// manifest that names them.
func (a *Archive) WriteRows(ctx context.Context, rows iter.Seq2[Row, error]) (written Rows, err error) {
	written.Number = a.m.Rows.Number + 1
	err = a.write(rowsName(written.Number), func(w io.Writer) error {
		out := bufio.NewWriterSize(w, 64<<10)
		var head []byte
		for r, err := range rows {
			if err = errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			head = binary.AppendUvarint(head[:0], uint64(len(r.Key)))
			head = binary.AppendUvarint(head, uint64(len(r.Value)))
			for _, p := range [][]byte{head, r.Key, r.Value} {
				if _, err := out.Write(p); err != nil {
					return err
				}
			}
			written.Count++
		}
		return out.Flush()
	})
	return written, err
}

// ReadRows passes the rows to f; their bytes are lent.
func (a *Archive) ReadRows(ctx context.Context, f func(r Row) error) error {
	if a.m.Rows.Number == 0 {
		return nil
	}
	name := rowsName(a.m.Rows.Number)
	damaged := func(what string) error { return &DamageError{Path: a.fs.Path(name), Reason: what} }
	return a.read(name, func(r io.Reader) error {
		in := bufio.NewReaderSize(r, 64<<10)
		var buf []byte
		for n := 0; ; n++ {
			k, err := binary.ReadUvarint(in)
			if err == io.EOF && n != a.m.Rows.Count {
				return damaged(fmt.Sprintf("has %d rows, not %d", n, a.m.Rows.Count))
			}
			if err == io.EOF {
				return ctx.Err()
			}
			v, verr := binary.ReadUvarint(in)
			if err = errors.Join(err, verr, ctx.Err()); err != nil {
				return err
			}
			if k > maxRow || v > maxRow {
				return damaged(fmt.Sprintf("a row of %d and %d bytes", k, v))
			}
			if n := int(k + v); cap(buf) < n {
				buf = make([]byte, n)
			}
			buf = buf[:k+v]
			if _, err := io.ReadFull(in, buf); err != nil {
				return damaged("ends within a row")
			}
			if err := f(Row{Key: buf[:k:k], Value: buf[k:]}); err != nil {
				return err
			}
		}
	})
}
