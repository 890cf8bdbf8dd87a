package message

import "strconv"

// Hex16 is a number as the EMBER_ properties write it: 16 lower-case hex digits.
// On disk. Do not change.
func Hex16(v int64) string {
	var b [ownDigits]byte
	putHex(b[:], uint64(v))
	return string(b[:])
}

// ParseHex16 reads a number that Hex16 wrote; a negative one is none.
func ParseHex16(s string) (v int64, ok bool) {
	if len(s) != ownDigits {
		return 0, false
	}
	u, ok := hexNumber(s)
	return int64(u), ok && int64(u) >= 0
}

// hexNumber reads what putHex wrote.
func hexNumber(s string) (uint64, bool) {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return 0, false
		}
	}
	v, err := strconv.ParseUint(s, 16, 64)
	return v, err == nil
}
