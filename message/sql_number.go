package message

import (
	"math"
	"strconv"
	"strings"
)

// javaInt reads what Java's Integer.valueOf (32 bits) and Long.valueOf (64) take:
// a sign and decimal digits, nothing else. Digits of other scripts do not count.
func javaInt(s string, bits int) (int64, bool) {
	negative := strings.HasPrefix(s, "-")
	if negative || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	limit := uint64(1)<<(bits-1) - 1
	if negative {
		limit++
	}
	if s == "" {
		return 0, false
	}
	var n uint64
	for i := range len(s) {
		d := uint64(s[i] - '0')
		if d > 9 || n > (limit-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	if negative {
		return -int64(n), true
	}
	return int64(n), true
}

// javaDouble reads what Java's Double.valueOf takes: blanks around it, a sign,
// NaN, Infinity, a decimal or hexadecimal float, and a letter f or d behind it. A
// number that is too large is infinite.
func javaDouble(s string) (float64, bool) {
	s = trimSpace(s)
	sign := 1.0
	if s != "" && (s[0] == '+' || s[0] == '-') {
		if s[0] == '-' {
			sign = -1
		}
		s = s[1:]
	}
	switch s {
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		return math.Inf(int(sign)), true
	}
	n := floatLength(s)
	if n == 0 || n < len(s)-1 || n == len(s)-1 && strings.IndexByte("fFdD", s[n]) < 0 {
		return 0, false
	}
	f, _ := strconv.ParseFloat(s[:n], 64) // it can only be too large, and is infinite then
	return sign * f, true
}

// floatLength is the length of the unsigned float that s begins with, 0 if it
// does not. A hexadecimal one needs its exponent.
func floatLength(s string) int {
	count, mark, n := digits, byte('e'), 0
	hex := len(s) > 1 && s[0] == '0' && s[1]|0x20 == 'x'
	if hex {
		count, mark, n = hexDigits, 'p', 2
	}
	whole := count(s[n:])
	n += whole
	fraction := 0
	if n < len(s) && s[n] == '.' {
		fraction = count(s[n+1:])
		n += 1 + fraction
	}
	if whole+fraction == 0 {
		return 0
	}
	if n == len(s) || s[n]|0x20 != mark {
		if hex {
			return 0
		}
		return n
	}
	n++
	if n < len(s) && (s[n] == '+' || s[n] == '-') {
		n++
	}
	exponent := digits(s[n:])
	if exponent == 0 {
		return 0
	}
	return n + exponent
}

// hexDigits counts the hexadecimal digits that s begins with.
func hexDigits(s string) (n int) {
	for n < len(s) && (digit(s[n]) || 'a' <= s[n]|0x20 && s[n]|0x20 <= 'f') {
		n++
	}
	return n
}
