package message

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

type sqlKind uint8

const (
	sqlNull   sqlKind = iota
	sqlFailed         // the evaluation cannot go on; the message does not match
	sqlBool
	sqlText
	sqlInt  // 32 bits
	sqlLong // 64 bits
	sqlFloat
)

// sqlValue is what a node comes to. n holds a boolean as 0 or 1, an integer, or
// the bits of a float.
type sqlValue struct {
	kind sqlKind
	n    int64
	s    string
}

func boolValue(b bool) sqlValue {
	if b {
		return sqlValue{kind: sqlBool, n: 1}
	}
	return sqlValue{kind: sqlBool}
}

func floatValue(f float64) sqlValue { return sqlValue{kind: sqlFloat, n: int64(math.Float64bits(f))} }

func (v sqlValue) float() float64 { return math.Float64frombits(uint64(v.n)) }

func (v sqlValue) is(b bool) bool { return v == boolValue(b) }

func (v sqlValue) number() bool { return v.kind >= sqlInt }

// sqlNode is a node of a condition. It does not change once it is made.
type sqlNode interface {
	eval(r *Record) sqlValue
	// write appends the node as text that parses to the same node.
	write(b *strings.Builder)
}

// isCondition reports whether a node can be true: neither properties, numbers
// and strings nor what has a sign can.
func isCondition(n sqlNode) bool {
	switch n := n.(type) {
	case sqlProperty, *sqlNegate:
		return false
	case *sqlConst:
		return n.kind == sqlBool || n.kind == sqlNull
	}
	return true
}

type (
	sqlConst    struct{ sqlValue }
	sqlProperty string
	sqlNegate   struct{ of sqlNode }
	sqlCast     struct{ of sqlProperty } // a property as a condition
	sqlNot      struct{ of sqlNode }
	sqlLogic    struct {
		word  string // AND or OR
		parts []sqlNode
	}
	sqlEqual struct{ left, right sqlNode }
	sqlOrder struct {
		word        string
		left, right sqlNode
	}
	sqlIsNull struct{ of sqlNode }
	sqlIn     struct {
		name sqlProperty
		list []string // sorted
		not  bool
	}
	sqlSearch struct {
		word string
		left sqlNode
		text string
		not  bool
	}
)

func (n *sqlConst) eval(*Record) sqlValue { return n.sqlValue }

func (n sqlProperty) eval(r *Record) sqlValue {
	if s, ok := r.Property(string(n)); ok {
		return sqlValue{kind: sqlText, s: s}
	}
	return sqlValue{}
}

// A sign before anything but a number gives null.
func (n *sqlNegate) eval(r *Record) sqlValue {
	v := n.of.eval(r)
	switch v.kind {
	case sqlInt, sqlLong:
		v.n = -v.n
	case sqlFloat:
		v = floatValue(-v.float())
	case sqlFailed:
	default:
		return sqlValue{}
	}
	return v
}

func (n *sqlCast) eval(r *Record) sqlValue {
	if v := n.of.eval(r); v.kind == sqlNull {
		return v
	}
	return boolValue(false)
}

func (n *sqlNot) eval(r *Record) sqlValue {
	v := n.of.eval(r)
	if v.kind == sqlBool {
		v.n ^= 1
	}
	return v
}

// The first part that decides ends an AND and an OR; what comes behind it cannot
// fail any more.
func (n *sqlLogic) eval(r *Record) sqlValue {
	decides := n.word == "OR"
	sum := boolValue(!decides)
	for _, part := range n.parts {
		v := part.eval(r)
		if v.kind == sqlFailed || v.is(decides) {
			return v
		}
		if v.kind == sqlNull {
			sum = v
		}
	}
	return sum
}

func (n *sqlEqual) eval(r *Record) sqlValue {
	left := n.left.eval(r)
	if left.kind == sqlFailed {
		return left
	}
	right := n.right.eval(r)
	switch {
	case right.kind == sqlFailed:
		return right
	case left.kind == sqlNull && right.kind != sqlNull:
		return left
	case right.kind == sqlNull:
		return boolValue(left.kind == sqlNull)
	}
	c, ok := compareSQL(left, right)
	if !ok {
		return sqlValue{kind: sqlFailed}
	}
	return boolValue(c == 0)
}

func (n *sqlOrder) eval(r *Record) sqlValue {
	left := n.left.eval(r)
	if left.kind == sqlFailed || left.kind == sqlNull {
		return left
	}
	right := n.right.eval(r)
	if right.kind == sqlFailed || right.kind == sqlNull {
		return right
	}
	if left.kind == sqlText && right.kind == sqlText {
		left, right = left.asFloat(), right.asFloat()
	}
	c, ok := compareSQL(left, right)
	if !ok {
		return sqlValue{kind: sqlFailed}
	}
	switch n.word {
	case "<":
		return boolValue(c < 0)
	case "<=":
		return boolValue(c <= 0)
	case ">":
		return boolValue(c > 0)
	}
	return boolValue(c >= 0)
}

func (n *sqlIsNull) eval(r *Record) sqlValue {
	v := n.of.eval(r)
	if v.kind == sqlFailed {
		return v
	}
	return boolValue(v.kind == sqlNull)
}

func (n *sqlIn) eval(r *Record) sqlValue {
	v := n.name.eval(r)
	if v.kind == sqlNull {
		return v
	}
	_, in := slices.BinarySearch(n.list, v.s)
	return boolValue(in != n.not)
}

func (n *sqlSearch) eval(r *Record) sqlValue {
	if n.text == "" {
		return boolValue(false)
	}
	v := n.left.eval(r)
	switch v.kind {
	case sqlFailed:
		return v
	case sqlText:
	default:
		return boolValue(false)
	}
	var found bool
	switch n.word {
	case "CONTAINS":
		found = strings.Contains(v.s, n.text)
	case "STARTSWITH":
		found = strings.HasPrefix(v.s, n.text)
	default:
		found = strings.HasSuffix(v.s, n.text)
	}
	return boolValue(found != n.not)
}

// compareSQL orders two values that are not null. A string takes the kind of what
// it stands beside; ok is false if it cannot be read as that.
func compareSQL(a, b sqlValue) (c int, ok bool) {
	if a.kind == sqlText && b.kind != sqlText {
		a = a.as(b.kind)
	} else if b.kind == sqlText && a.kind != sqlText {
		if a.kind == sqlBool {
			return 0, false // RocketMQ takes the boolean for the string, and fails
		}
		b = b.as(a.kind)
	}
	switch {
	case a.kind == sqlFailed || b.kind == sqlFailed:
		return 0, false
	case a.kind == sqlText:
		return strings.Compare(a.s, b.s), true
	case a.kind == sqlBool != (b.kind == sqlBool):
		return -1, true // never equal
	case a.kind == sqlFloat || b.kind == sqlFloat:
		return compareFloats(a.toFloat(), b.toFloat()), true
	}
	return cmp.Compare(a.n, b.n), true
}

// as reads a string as another kind.
func (v sqlValue) as(kind sqlKind) sqlValue {
	switch kind {
	case sqlBool:
		return boolValue(strings.EqualFold(v.s, "true"))
	case sqlInt, sqlLong:
		bits := 64
		if kind == sqlInt {
			bits = 32
		}
		if n, ok := javaInt(v.s, bits); ok {
			return sqlValue{kind: kind, n: n}
		}
		return sqlValue{kind: sqlFailed}
	case sqlFloat:
		return v.asFloat()
	}
	return sqlValue{kind: sqlFailed}
}

func (v sqlValue) asFloat() sqlValue {
	if f, ok := javaDouble(v.s); ok {
		return floatValue(f)
	}
	return sqlValue{kind: sqlFailed}
}

func (v sqlValue) toFloat() float64 {
	if v.kind == sqlFloat {
		return v.float()
	}
	return float64(v.n)
}

// compareFloats is Java's order: −0 below 0, and NaN above all and equal to itself.
func compareFloats(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	case math.IsNaN(a) || math.IsNaN(b):
		return boolInt(math.IsNaN(a)) - boolInt(math.IsNaN(b))
	}
	return boolInt(math.Signbit(b)) - boolInt(math.Signbit(a))
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
