package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"sync"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// Encoding says how a body is compressed.
type Encoding uint8

const (
	// None: the body is as the user gave it.
	None Encoding = iota
	// Zlib is RocketMQ's default.
	Zlib
	// Zstd is Zstandard.
	Zstd
	// LZ4 is recognised and not supported: such a body is returned as it is.
	LZ4

	unknownEncoding
)

// String returns the name in lower case.
func (e Encoding) String() string {
	switch e {
	case None:
		return "none"
	case Zlib:
		return "zlib"
	case Zstd:
		return "zstd"
	case LZ4:
		return "lz4"
	}
	return "Encoding(" + strconv.Itoa(int(e)) + ")"
}

// sysFlag returns the bits for a body of this encoding.
func (e Encoding) sysFlag() int32 {
	switch e {
	case Zlib:
		return FlagCompressed | 0x300
	case Zstd:
		return FlagCompressed | 0x200
	case LZ4:
		return FlagCompressed | 0x100
	}
	return 0
}

// encodingOf reads the bits. A compressed body without a type is from before
// there were types: zlib.
func encodingOf(sysFlag int32) Encoding {
	if sysFlag&FlagCompressed == 0 {
		return None
	}
	switch sysFlag & maskEncoding {
	case 0, 0x300:
		return Zlib
	case 0x200:
		return Zstd
	case 0x100:
		return LZ4
	}
	return unknownEncoding
}

// DefaultInflateLimit bounds an inflated body when the caller gives no limit:
// four times the largest body that a store takes by default.
const DefaultInflateLimit = 16 << 20

// Compress appends body, compressed, to dst. Whether that is worth it is for the
// caller to see: a body that does not compress grows. With None it appends body
// as it is. Encodings that are not supported give ErrUnsupportedCompression.
func Compress(dst, body []byte, e Encoding) ([]byte, error) {
	switch e {
	case None:
		return append(dst, body...), nil
	case Zlib:
		z := zlibWriters.Get().(*zlibWriter)
		defer zlibWriters.Put(z)
		return z.compress(dst, body)
	case Zstd:
		enc, err := zstdEncoder()
		if err != nil {
			return dst, err
		}
		return enc.EncodeAll(body, dst), nil
	}
	return dst, ErrUnsupportedCompression
}

// Inflate appends the inflated body to dst. No more than limit bytes are
// appended or allocated for, whatever the body says about itself; a larger
// result is a *SizeError. A limit of zero is DefaultInflateLimit. On these errors
// and for bytes that do not inflate (DefectInflate), dst is returned as it was.
// An encoding that is not supported gives body itself, not copied, and
// ErrUnsupportedCompression.
func Inflate(dst, body []byte, e Encoding, limit int) ([]byte, error) {
	if limit <= 0 {
		limit = DefaultInflateLimit
	}
	switch e {
	case None:
		if len(body) > limit {
			return dst, tooLarge(len(body), limit)
		}
		return append(dst, body...), nil
	case Zlib:
		return inflateZlib(dst, body, limit)
	case Zstd:
		return inflateZstd(dst, body, limit)
	}
	return body, ErrUnsupportedCompression
}

func tooLarge(size, limit int) error {
	return &SizeError{What: "inflated body", Size: int64(size), Limit: int64(limit)}
}

func badInflate(err error) error { return fmt.Errorf("message: %w: %w", DefectInflate, err) }

// firstRoom is how much room an inflated body of unknown size gets at first.
func firstRoom(body []byte, limit int) int { return min(limit, max(4*len(body), 512)) }

// zlibLevel is RocketMQ's default.
const zlibLevel = 5

// zlibWriter is a compressor and the slice it appends to.
type zlibWriter struct {
	w   *zlib.Writer
	dst []byte
}

var zlibWriters = sync.Pool{New: func() any { return new(zlibWriter) }}

func (z *zlibWriter) Write(p []byte) (int, error) {
	z.dst = append(z.dst, p...)
	return len(p), nil
}

func (z *zlibWriter) compress(dst, body []byte) ([]byte, error) {
	if z.w == nil {
		w, err := zlib.NewWriterLevel(z, zlibLevel)
		if err != nil {
			return dst, fmt.Errorf("message: zlib: %w", err)
		}
		z.w = w
	}
	z.dst = dst
	z.w.Reset(z)
	_, err := z.w.Write(body)
	if err == nil {
		err = z.w.Close()
	}
	out := z.dst
	z.dst = nil // the pool must not hold on to the caller's memory
	if err != nil {
		return dst, fmt.Errorf("message: zlib: %w", err)
	}
	return out, nil
}

// zlibReader is a decompressor and its source.
type zlibReader struct {
	r   io.ReadCloser
	src bytes.Reader
}

var zlibReaders = sync.Pool{New: func() any { return new(zlibReader) }}

func inflateZlib(dst, body []byte, limit int) ([]byte, error) {
	z := zlibReaders.Get().(*zlibReader)
	defer func() {
		z.src.Reset(nil)
		zlibReaders.Put(z)
	}()
	z.src.Reset(body)
	var err error
	if z.r == nil {
		z.r, err = zlib.NewReader(&z.src)
	} else {
		err = z.r.(zlib.Resetter).Reset(&z.src, nil)
	}
	if err != nil {
		return dst, badInflate(err)
	}
	out := slices.Grow(dst, firstRoom(body, limit))
	end := len(dst) + limit
	for {
		if len(out) == end {
			return finishZlib(z.r, dst, out, limit)
		}
		if len(out) == cap(out) {
			out = slices.Grow(out, min(len(out)-len(dst), end-len(out)))
		}
		n, err := z.r.Read(out[len(out):min(cap(out), end)])
		out = out[:len(out)+n]
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return dst, badInflate(err)
		}
	}
}

// finishZlib sees whether a body ends exactly at the limit.
func finishZlib(r io.Reader, dst, out []byte, limit int) ([]byte, error) {
	var one [1]byte
	switch n, err := io.ReadFull(r, one[:]); {
	case n > 0:
		return dst, tooLarge(limit+1, limit)
	case err != io.EOF:
		return dst, badInflate(err)
	}
	return out, nil
}

// One encoder and one decoder serve all: they hold a pool of states themselves
// and start no goroutine for whole bodies. Neither is made before it is needed.
var (
	zstdEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault))
	})
	zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderConcurrency(0))
	})
)

// inflateZstd gives the decoder a slice that it cannot grow, of the size that
// the body announces or else doubling up to the limit. So it never allocates
// more than limit, and about twice what it returns.
func inflateZstd(dst, body []byte, limit int) ([]byte, error) {
	dec, err := zstdDecoder()
	if err != nil {
		return dst, fmt.Errorf("message: zstd: %w", err)
	}
	room := firstRoom(body, limit)
	var h zstd.Header
	if err := h.Decode(body); err == nil && h.HasFCS {
		if h.FrameContentSize > uint64(limit) {
			return dst, &SizeError{What: "inflated body", Size: clampInt64(h.FrameContentSize), Limit: int64(limit)}
		}
		room = int(h.FrameContentSize)
	}
	for {
		room = min(room, limit)
		buf := slices.Grow(dst, room)
		out, err := dec.DecodeAll(body, buf[:len(dst):len(dst)+room])
		switch {
		case err == nil && len(out)-len(dst) <= limit:
			return out, nil
		case err == nil, errors.Is(err, zstd.ErrDecoderSizeExceeded) && room == limit:
			return dst, tooLarge(limit+1, limit)
		case !errors.Is(err, zstd.ErrDecoderSizeExceeded):
			return dst, badInflate(err)
		}
		room = max(2*room, 512)
	}
}

func clampInt64(v uint64) int64 { return int64(min(v, math.MaxInt64)) }
