// Package ident keeps ids of messages in 16 bytes, for tables of many.
package ident

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// ID stands for an id: the 16 bytes that its 32 hex digits spell, or the start of
// a hash of any other text. The zero ID is no id.
type ID [16]byte

// Of also says whether the text is lost in the ID.
func Of(text string) (i ID, hashed bool) {
	if text == "" {
		return ID{}, false
	}
	if i.decode(text) && i != (ID{}) {
		return i, false
	}
	sum := sha256.Sum256([]byte(text))
	copy(i[:], sum[:])
	return i, true
}

// Text is what Of was given, if it is not lost; empty for the zero ID.
func (i ID) Text() string {
	if i == (ID{}) {
		return ""
	}
	return strings.ToUpper(hex.EncodeToString(i[:]))
}

// decode reads 32 upper-case hex digits.
func (i *ID) decode(s string) bool {
	if len(s) != 2*len(i) {
		return false
	}
	for n := range i {
		a, b := upperHex[s[2*n]], upperHex[s[2*n+1]]
		if a|b > 15 {
			return false
		}
		i[n] = a<<4 | b
	}
	return true
}

// upperHex is the value of a digit; 255 for what is none.
var upperHex = func() (t [256]byte) {
	for c := range t {
		t[c] = 255
	}
	for v, c := range "0123456789ABCDEF" {
		t[c] = byte(v)
	}
	return t
}()
