package message

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

type sqlTokenKind uint8

const (
	sqlEnd   sqlTokenKind = iota // of the text
	sqlWord                      // a keyword or an operator
	sqlName                      // of a property
	sqlQuote                     // a string, in its quotes
	sqlWhole                     // an integer
	sqlPoint                     // a float
)

// sqlToken is one word of the text. text is upper case for keywords.
type sqlToken struct {
	kind sqlTokenKind
	at   int
	text string
}

// sqlLexer splits the text of a filter into tokens.
type sqlLexer struct {
	src string
	pos int
}

func (l *sqlLexer) fail(at int, reason string) error {
	return &FilterError{Expr: l.src, Column: utf8.RuneCountInString(l.src[:at]) + 1, Reason: reason}
}

func (l *sqlLexer) next() (sqlToken, error) {
	if err := l.skip(); err != nil {
		return sqlToken{}, err
	}
	at := l.pos
	take := func(kind sqlTokenKind, n int) (sqlToken, error) {
		l.pos += n
		return sqlToken{kind, at, l.src[at:l.pos]}, nil
	}
	rest := l.src[at:]
	if rest == "" {
		return take(sqlEnd, 0)
	}
	switch c := rest[0]; {
	case c == '\'':
		n := quoteLength(rest)
		if n == 0 {
			return sqlToken{}, l.fail(at, "string without its closing quote")
		}
		if !utf8.ValidString(rest[:n]) {
			return sqlToken{}, l.fail(at, "string is not UTF-8")
		}
		return take(sqlQuote, n)
	case digit(c), c == '.' && len(rest) > 1 && digit(rest[1]):
		kind, n := numberLength(rest)
		return take(kind, n)
	case nameStart(c):
		n := 1
		for n < len(rest) && (nameStart(rest[n]) || digit(rest[n])) {
			n++
		}
		if k := keyword(rest[:n]); k != "" {
			l.pos += n
			return sqlToken{sqlWord, at, k}, nil
		}
		return take(sqlName, n)
	case strings.HasPrefix(rest, "<="), strings.HasPrefix(rest, ">="), strings.HasPrefix(rest, "<>"):
		return take(sqlWord, 2)
	case strings.IndexByte("()=<>,+-", c) >= 0:
		return take(sqlWord, 1)
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return sqlToken{}, l.fail(at, "unexpected character "+strconv.QuoteRune(r))
}

// skip passes blanks and comments. A comment that starts with -- ends with its
// line; in a text that just ends there, the two are signs, as in RocketMQ.
func (l *sqlLexer) skip() error {
	for l.pos < len(l.src) {
		rest := l.src[l.pos:]
		switch {
		case strings.IndexByte(" \t\n\r\f", rest[0]) >= 0:
			l.pos++
		case strings.HasPrefix(rest, "--"):
			n := strings.IndexAny(rest, "\n\r")
			if n < 0 {
				return nil
			}
			l.pos += n + 1
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				return l.fail(l.pos, "comment without its end")
			}
			l.pos += n + 4
		default:
			return nil
		}
	}
	return nil
}

// quoteLength is the length of the string that s begins with, 0 if it has no end.
func quoteLength(s string) int {
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			continue
		}
		if i+1 == len(s) || s[i+1] != '\'' {
			return i + 1
		}
		i++
	}
	return 0
}

// numberLength finds the longest number that s begins with: 5 5L 5. 5.5 .5 5E3.
func numberLength(s string) (sqlTokenKind, int) {
	whole := digits(s)
	n := whole
	if n < len(s) && s[n] == '.' {
		n++
		n += digits(s[n:])
	}
	if n < len(s) && s[n]|0x20 == 'e' {
		e := n + 1
		if e < len(s) && (s[e] == '+' || s[e] == '-') {
			e++
		}
		if d := digits(s[e:]); d > 0 {
			n = e + d
		}
	}
	if n > whole {
		return sqlPoint, n
	}
	if s[0] == '0' {
		return sqlWhole, 1 // 0 stands alone: 007 is three numbers, and so an error
	}
	if n < len(s) && s[n]|0x20 == 'l' {
		n++
	}
	return sqlWhole, n
}

// digits counts the decimal digits that s begins with.
func digits(s string) (n int) {
	for n < len(s) && digit(s[n]) {
		n++
	}
	return n
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func nameStart(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' || c == '$'
}

// keyword returns the keyword that s is, or "".
func keyword(s string) string {
	const longest = 10
	if len(s) > longest {
		return ""
	}
	switch up := strings.ToUpper(s); up {
	case "AND", "OR", "NOT", "IS", "NULL", "IN", "BETWEEN", "TRUE", "FALSE", "CONTAINS", "STARTSWITH", "ENDSWITH":
		return up
	}
	return ""
}
