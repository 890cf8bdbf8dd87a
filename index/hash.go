package index

import (
	"math"

	"github.com/embermq/embermq/message"
)

// Hash is the hash that a key of a topic is found by: the absolute value of
// Java's hash of topic#key, and 0 for the one that has none.
func Hash(topic, key string) int32 { return fold(extend(prefix(topic), key)) }

// prefix is the hash state behind "topic#".
func prefix(topic string) uint32 { return uint32(message.JavaHash(topic))*31 + '#' }

func fold(h uint32) int32 {
	v := int32(h)
	switch {
	case v == math.MinInt32:
		return 0
	case v < 0:
		return -v
	}
	return v
}

// extend goes on with Java's hash over the UTF-16 units of s. The '#' in front
// of a key ends any character of the topic, so the two parts never merge.
func extend(h uint32, s string) uint32 {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x80 {
			return extendUTF16(h, s[i:])
		}
		h = h*31 + uint32(c)
	}
	return h
}

func extendUTF16(h uint32, s string) uint32 {
	for _, r := range s {
		if r >= 0x10000 {
			r -= 0x10000
			h = h*31 + uint32(0xD800+r>>10)
			r = 0xDC00 + r&0x3FF
		}
		h = h*31 + uint32(r)
	}
	return h
}
