package message

import (
	"strconv"
	"strings"
)

// The normal form: upper case, one space, and parentheses around every part that
// has parts itself.

func (n *sqlConst) write(b *strings.Builder) {
	switch n.kind {
	case sqlBool:
		b.WriteString(strings.ToUpper(strconv.FormatBool(n.n == 1)))
	case sqlText:
		writeQuoted(b, n.s)
	case sqlInt, sqlLong:
		b.WriteString(strconv.FormatInt(n.n, 10))
	case sqlFloat:
		b.WriteString(strconv.FormatFloat(n.float(), 'E', -1, 64))
	default:
		b.WriteString("NULL")
	}
}

func writeQuoted(b *strings.Builder, s string) {
	b.WriteString("'" + strings.ReplaceAll(s, "'", "''") + "'")
}

func (n sqlProperty) write(b *strings.Builder) { b.WriteString(string(n)) }

// writePart writes a node inside another one.
func writePart(b *strings.Builder, n sqlNode) {
	switch n.(type) {
	case sqlProperty, *sqlConst, *sqlCast:
		n.write(b)
	default:
		b.WriteByte('(')
		n.write(b)
		b.WriteByte(')')
	}
}

func writePair(b *strings.Builder, left sqlNode, word string, right sqlNode) {
	writePart(b, left)
	b.WriteString(" " + word + " ")
	writePart(b, right)
}

func (n *sqlNegate) write(b *strings.Builder) {
	b.WriteByte('-')
	writePart(b, n.of)
}

func (n *sqlCast) write(b *strings.Builder) { n.of.write(b) }

func (n *sqlNot) write(b *strings.Builder) {
	switch of := n.of.(type) {
	case *sqlEqual:
		writePair(b, of.left, "<>", of.right)
	case *sqlIsNull:
		writePart(b, of.of)
		b.WriteString(" IS NOT NULL")
	default:
		b.WriteString("NOT ")
		writePart(b, of)
	}
}

func (n *sqlLogic) write(b *strings.Builder) {
	for i, part := range n.parts {
		if i > 0 {
			b.WriteString(" " + n.word + " ")
		}
		writePart(b, part)
	}
}

func (n *sqlEqual) write(b *strings.Builder) { writePair(b, n.left, "=", n.right) }

func (n *sqlOrder) write(b *strings.Builder) { writePair(b, n.left, n.word, n.right) }

func (n *sqlIsNull) write(b *strings.Builder) {
	writePart(b, n.of)
	b.WriteString(" IS NULL")
}

func (n *sqlIn) write(b *strings.Builder) {
	n.name.write(b)
	writeWord(b, "IN", n.not)
	b.WriteByte('(')
	for i, s := range n.list {
		if i > 0 {
			b.WriteString(", ")
		}
		writeQuoted(b, s)
	}
	b.WriteByte(')')
}

func (n *sqlSearch) write(b *strings.Builder) {
	writePart(b, n.left)
	writeWord(b, n.word, n.not)
	writeQuoted(b, n.text)
}

func writeWord(b *strings.Builder, word string, not bool) {
	if not {
		word = "NOT " + word
	}
	b.WriteString(" " + word + " ")
}
