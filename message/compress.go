package message

import "strconv"

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

// Inflate appends the inflated body to dst.
func Inflate(dst, body []byte, e Encoding, limit int) ([]byte, error) {
	return body, ErrUnsupportedCompression
}
