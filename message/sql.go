package message

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// MaxSQL92 is the most bytes that the text of an SQL92 filter may have.
	MaxSQL92 = 64 << 10
	// maxSQLDepth bounds parentheses and signs inside each other, and operators in
	// a chain, so that no text can exhaust the stack.
	maxSQLDepth = 100
)

// SQL92 makes a filter from a condition over the properties of a message, such as
//
//	color IN ('red', 'blue') AND price > 10 AND NOT (region IS NULL)
//
// TAGS, KEYS and the other names of RocketMQ are properties too. The language is
// RocketMQ's, with its peculiarities:
//
//   - Operators: = <> < <= > >=, [NOT] BETWEEN, [NOT] IN of strings, IS [NOT] NULL,
//     [NOT] CONTAINS, STARTSWITH and ENDSWITH with a string, AND, OR, NOT, signs.
//     NOT and signs bind tightest, then < BETWEEN IN CONTAINS and their kin, then
//     = <> IS, then AND, then OR. So NOT a = 1 means (NOT a) = 1.
//   - Property names are case-sensitive, keywords are not. A quote in a string is
//     written twice. Comments are -- to the end of the line and /* */.
//   - A property is a string. Beside a number it is read as a number of that kind:
//     an integer that fits 32 bits, one of 64 bits, or a float. '5.0' is not an
//     integer. Beside TRUE or FALSE it is read as a boolean, if it stands on the left.
//     Strings are = or <>; < and its kin read two properties as floats.
//   - What cannot be read fails, and a message for which the evaluation fails does
//     not match. A property by itself is a condition that is never true.
//   - A missing property is null. A comparison with null on its left, or of order, is
//     null; = with null only on the right is false, and so <> is true. AND, OR and
//     NOT know three values. CONTAINS and its kin are false for null, with NOT too.
//     A message matches when the whole is true.
//
// One thing differs: RocketMQ ignores what follows a complete condition, here it
// is an error.
//
// The error is a *FilterError. Text over MaxSQL92 bytes or nested too deeply is
// refused. Matching does not allocate.
func SQL92(expr string) (Filter, error) {
	if len(expr) > MaxSQL92 {
		return nil, &FilterError{Expr: expr, Column: 1, Reason: strconv.Itoa(len(expr)) + " bytes, the limit is " + strconv.Itoa(MaxSQL92)}
	}
	root, err := parseSQL(expr)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	root.write(&b)
	return &sqlFilter{root: root, text: b.String()}, nil
}

// sqlFilter matches records for which a condition is true.
type sqlFilter struct {
	root sqlNode
	text string
}

func (f *sqlFilter) Hashes() []int64 { return nil }

func (f *sqlFilter) Match(r *Record) bool { return f.root.eval(r).is(true) }

func (f *sqlFilter) String() string { return f.text }

// FilterError says where the text of a filter is wrong and why. It is
// ErrInvalidMessage for errors.Is, as are the errors of Tags.
type FilterError struct {
	Expr   string
	Column int // in characters, from 1
	Reason string
}

// Error names the column, the reason and the text around it.
func (e *FilterError) Error() string {
	s := "invalid filter: column " + strconv.Itoa(e.Column) + ": " + e.Reason
	if near := e.near(); near != "" {
		s += " near " + strconv.Quote(near)
	}
	return s
}

// near is what stands at the column, shortened.
func (e *FilterError) near() string {
	const most = 24
	column := 0
	for i := range e.Expr {
		if column++; column == e.Column {
			s := e.Expr[i:]
			if len(s) > most {
				n := most
				for n > 0 && !utf8.RuneStart(s[n]) {
					n--
				}
				s = s[:n] + "…"
			}
			return s
		}
	}
	return ""
}

// Is reports whether target is ErrInvalidMessage.
func (e *FilterError) Is(target error) bool { return target == ErrInvalidMessage }
