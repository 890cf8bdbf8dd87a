package message

import (
	"encoding/binary"
	"net/netip"
)

// Bits of a record's SYSFLAG. On disk. Do not change.
const (
	FlagCompressed int32 = 0x1
	FlagMultiTags  int32 = 0x2
	FlagPrepared   int32 = 0x4
	FlagCommit     int32 = 0x8
	FlagRollback   int32 = 0xC
	FlagBornIPv6   int32 = 0x10
	FlagStoreIPv6  int32 = 0x20
	FlagUnwrap     int32 = 0x40
	FlagInnerBatch int32 = 0x80

	maskTransaction int32 = 0xC
	maskEncoding    int32 = 0x700
)

// Property is a name and a value that the store writes. With Own, the record's
// own position, 16 lower-case hex digits, is put in front of Value when the
// draft is stamped. An empty Value that is not Own removes the property of that
// name.
type Property struct {
	Name, Value string
	Own         bool
}

// Envelope is what a record holds that a user does not set. The zero value is
// that of an ordinary message.
type Envelope struct {
	SysFlag        int32 // the bits for IPv6 and compression are set by the encoder
	ReconsumeTimes int32
	BornAt         int64 // milliseconds; 0 is the store time
	BornHost       netip.AddrPort
	StoreHost      netip.AddrPort // the zero host is 127.0.0.1:10911
	PreparedOffset int64
	// Reserved are written besides the message's own properties, all in one
	// sorted order. Reserved names are allowed, and a name that stands in both
	// is taken from here.
	Reserved []Property
}

// hostSize is the size of an encoded host.
func hostSize(v6 bool) int {
	if v6 {
		return 20
	}
	return 8
}

func isIPv6(h netip.AddrPort) bool { return h.Addr().Is6() && !h.Addr().Is4In6() }

// putHost writes a host and returns what follows it.
func putHost(b []byte, h netip.AddrPort) []byte {
	a := h.Addr()
	switch {
	case !a.IsValid():
		binary.BigEndian.PutUint64(b, 0x7F000001_00002A9F) // 127.0.0.1:10911
		return b[8:]
	case isIPv6(h):
		ip := a.As16()
		copy(b, ip[:])
		binary.BigEndian.PutUint32(b[16:], uint32(h.Port()))
		return b[20:]
	}
	ip := a.As4()
	copy(b, ip[:])
	binary.BigEndian.PutUint32(b[4:], uint32(h.Port()))
	return b[8:]
}

// getHost reads a host of 8 or 20 bytes.
func getHost(b []byte) netip.AddrPort {
	switch len(b) {
	case 8:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), uint16(binary.BigEndian.Uint32(b[4:])))
	case 20:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)), uint16(binary.BigEndian.Uint32(b[16:])))
	}
	return netip.AddrPort{}
}
