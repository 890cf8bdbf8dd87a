package message

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

// OffsetID is RocketMQ's name for a stored record: the store's host and the
// record's position, as 32 upper-case hex digits, or 56 with an IPv6 host. The
// zero host is 127.0.0.1:10911.
func OffsetID(host netip.AddrPort, position int64) string {
	var b [28]byte
	rest := putHost(b[:], host)
	n := len(b) - len(rest)
	binary.BigEndian.PutUint64(b[n:], uint64(position))
	return upperHex(b[:n+8])
}

// ParseOffsetID reads what OffsetID wrote. The error is DefectID.
func ParseOffsetID(s string) (host netip.AddrPort, position int64, err error) {
	var b [28]byte
	n, ok := parseHex(b[:], s)
	if !ok || n != 16 && n != 28 {
		return netip.AddrPort{}, 0, DefectID
	}
	return getHost(b[:n-8]), int64(binary.BigEndian.Uint64(b[n-8:])), nil
}

// IDs makes unique ids for messages: 16 bytes, of which six are the time in
// milliseconds, six were drawn at random for this value, and four count. They
// need no coordination, and sort by time. It is safe for concurrent use.
type IDs struct {
	now     func() time.Time
	process [6]byte
	counter atomic.Uint32
}

// NewIDs returns a source of ids that reads the time from now; nil is time.Now.
func NewIDs(now func() time.Time) *IDs {
	if now == nil {
		now = time.Now
	}
	g := &IDs{now: now}
	// Read cannot fail: it ends the process when the system has no randomness.
	_, _ = rand.Read(g.process[:])
	return g
}

// Next returns a new id: 32 upper-case hex digits.
func (g *IDs) Next() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(g.now().UnixMilli())<<16)
	copy(b[6:], g.process[:])
	binary.BigEndian.PutUint32(b[12:], g.counter.Add(1)-1)
	return upperHex(b[:])
}

// UniqKey is what a Java client puts into its unique ids.
type UniqKey struct {
	Addr    netip.Addr
	PID     uint16
	Loader  int32         // hash of the class loader
	Since   time.Duration // since the month began, in the client's time zone
	Counter uint16
}

// ParseUniqKey takes a Java client's unique id apart: 32 hex digits, or 56 with
// an IPv6 address. An id of IDs has the same form and gives meaningless parts:
// the text does not say who wrote it. The error is DefectID.
func ParseUniqKey(s string) (UniqKey, error) {
	var b [28]byte
	n, ok := parseHex(b[:], s)
	if !ok || n != 16 && n != 28 {
		return UniqKey{}, DefectID
	}
	addr, _ := netip.AddrFromSlice(b[:n-12])
	be, rest := binary.BigEndian, b[n-12:n]
	return UniqKey{
		Addr:    addr,
		PID:     be.Uint16(rest),
		Loader:  int32(be.Uint32(rest[2:])),
		Since:   time.Duration(int32(be.Uint32(rest[6:]))) * time.Millisecond,
		Counter: be.Uint16(rest[10:]),
	}, nil
}

func upperHex(b []byte) string {
	const digits = "0123456789ABCDEF"
	var out [56]byte
	for i, c := range b {
		out[2*i], out[2*i+1] = digits[c>>4], digits[c&15]
	}
	return string(out[:2*len(b)])
}

// parseHex reads hex digits of either case into b; ok is false if there are
// others or more than b holds.
func parseHex(b []byte, s string) (n int, ok bool) {
	if len(s) > 2*len(b) {
		return 0, false
	}
	n, err := hex.Decode(b, []byte(strings.ToLower(s)))
	return n, err == nil
}
