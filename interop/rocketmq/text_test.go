package rocketmq

import (
	"math/rand/v2"
	"strings"
)

// alphabets are what generated text is made of: ASCII, words that hash alike,
// two- and three-byte characters, and characters that take two UTF-16 units.
var alphabets = []string{
	"abcdefghijklmnopqrstuvwxyz0123456789",
	"AaBB",
	"äöüßéèñ€αβγЖщ",
	"消息队列訂單テスト한국어",
	"😀🚀𝒳𐍈🀄",
	"a消😀 _-|%#.,;:\"'\\/<>{}[]()=\t",
}

// text returns between low and high characters of a random alphabet.
func text(r *rand.Rand, low, high int) string {
	letters := []rune(alphabets[r.IntN(len(alphabets))])
	var b strings.Builder
	for range low + r.IntN(high-low+1) {
		b.WriteRune(letters[r.IntN(len(letters))])
	}
	return b.String()
}

// word is text that may be a key: it has no space and is not empty.
func word(r *rand.Rand) string {
	return strings.ReplaceAll(text(r, 1, 20), " ", "_")
}

// bytesOf returns n bytes, half of the time well compressible.
func bytesOf(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	if r.IntN(2) == 0 {
		for i := range b {
			b[i] = byte('a' + i*i%7)
		}
		return b
	}
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
