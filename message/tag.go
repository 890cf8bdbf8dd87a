package message

import "unicode/utf8"

// TagHash is the value that stands for a tag in a queue entry: Java's hash of
// the string, sign extended. No tag hashes to zero.
func TagHash(tag string) int64 { return int64(JavaHash(tag)) }

// JavaHash is Java's String.hashCode: over UTF-16 code units, modulo 2^32. Bytes
// that are not UTF-8 count as the replacement character, which is what Java
// makes of them. It does not allocate.
func JavaHash(s string) int32 {
	var h uint32
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= utf8.RuneSelf {
			return hashUTF16(h, s[i:])
		}
		h = h*31 + uint32(c)
	}
	return int32(h)
}

func hashUTF16(h uint32, s string) int32 {
	for _, r := range s {
		if r >= 0x10000 {
			r -= 0x10000
			h = h*31 + uint32(0xD800+r>>10)
			r = 0xDC00 + r&0x3FF
		}
		h = h*31 + uint32(r)
	}
	return int32(h)
}
