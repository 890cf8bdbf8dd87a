package message

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// slowLookup takes every property apart, as RocketMQ does.
func slowLookup(s, name string) (value string, ok bool) {
	for {
		n, v, rest, more := nextProperty(s)
		if !more {
			return value, ok
		}
		if n == name {
			value, ok = v, true
		}
		s = rest
	}
}

func FuzzLookup(f *testing.F) {
	f.Add("KEYS\x01a b\x02TAGS\x01paid\x02", "TAGS")
	f.Add("TAGS\x01a\x02TAGS\x01b\x02", "TAGS")
	f.Add("TAGS\x01a\x02TAGS\x01\x02xTAGS\x01c\x02", "TAGS")
	f.Add("a\x01TAGS\x01b\x02TAGS\x02TAGS\x01", "TAGS")
	f.Add("a\x01b", "a")
	f.Add("a\x01\x02", "a")
	f.Add("a\x01b\x01c\x02", "a\x01b")
	f.Add("x\x02y\x01v\x02", "x\x02y")
	f.Add("aa\x01aa\x02aaa\x01a\x02", "aa")
	f.Add("\x01v\x02", "")
	f.Fuzz(func(t *testing.T, s, name string) {
		want, wantOK := slowLookup(s, name)
		got, ok := lookup(s, name)
		require.Equal(t, wantOK, ok)
		require.Equal(t, want, got)
	})
}
