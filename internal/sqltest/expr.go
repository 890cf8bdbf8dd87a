package sqltest

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Expr is a filter, as a tree and as text.
type Expr struct {
	Op   string // "property", "literal", or an operator: "NOT IN", "<>", "IS NULL", "-" ...
	Kids []*Expr
	Name string   // of a property
	Text string   // of a literal or a parenthesis: how it is written
	Lit  any      // of a literal: nil, bool, string, int32, int64, float64
	List []string // of IN, and the one string of CONTAINS and its kin
	// Bad says that the literal itself is refused: 0.0, or out of range.
	Bad bool
}

// Names are the properties that filters speak of and messages have.
var Names = []string{"a", "b", "A", "price", "_x", "$y", "TAGS", "KEYS", "in1"}

// strings that are numbers of one kind or another, nearly numbers, and booleans.
var texts = []string{
	"x", "red", "blue", "it's", "a''b", "ü", "true", "TRUE", "false", "yes", "0", "-0", "5", "+5", "05", "-7", "5.0", "5.", ".5",
	"5E0", "5e", "0x5", "0x1.4p2", "2147483647", "2147483648", "-2147483648", "9223372036854775807", "9223372036854775808",
	"-9223372036854775808", "1e400", "-1e400", "NaN", "-NaN", "Infinity", "inf", " 5", "5 ", "5d", "5f", "5L", "1_0", "0.0", "-0.0",
	"5.5", "10", "null", "NULL", "-", "+", ".", "e5", "5e-3", "٥",
}

// Properties draws what a message has. Values are not empty.
func Properties(r *rand.Rand) map[string]string {
	m := make(map[string]string)
	for _, n := range Names {
		if r.IntN(3) > 0 {
			m[n] = texts[r.IntN(len(texts))]
		}
	}
	return m
}

// Random draws a filter with about size operators. Most are accepted.
func Random(r *rand.Rand, size int) *Expr { return (&drawer{r, size}).or() }

type drawer struct {
	r    *rand.Rand
	left int
}

func (d *drawer) one(of ...string) string { return of[d.r.IntN(len(of))] }

// more says whether another operator is drawn.
func (d *drawer) more(in int) bool {
	if d.left <= 0 || d.r.IntN(in) > 0 {
		return false
	}
	d.left--
	return true
}

func (d *drawer) or() *Expr {
	e := d.and()
	for d.more(4) {
		e = &Expr{Op: "OR", Kids: []*Expr{e, d.and()}}
	}
	return e
}

func (d *drawer) and() *Expr {
	e := d.equality()
	for d.more(3) {
		e = &Expr{Op: "AND", Kids: []*Expr{e, d.equality()}}
	}
	return e
}

func (d *drawer) equality() *Expr {
	e := d.comparison()
	for d.more(4) {
		switch op := d.one("=", "<>", "IS NULL", "IS NOT NULL"); op {
		case "=", "<>":
			e = &Expr{Op: op, Kids: []*Expr{e, d.comparison()}}
		default:
			e = &Expr{Op: op, Kids: []*Expr{e}}
		}
	}
	return e
}

func (d *drawer) comparison() *Expr {
	if d.r.IntN(3) == 0 {
		return d.unary()
	}
	e := d.unary()
	// Mostly what makes sense, so that deep trees are not all refused.
	if e.Op != "property" && d.r.IntN(3) > 0 {
		return e
	}
	for n := 0; n == 0 || d.more(12); n++ {
		not := d.one("", "", "NOT ")
		switch op := d.one("<", "<=", ">", ">=", "BETWEEN", "IN", "IN", "CONTAINS", "STARTSWITH", "ENDSWITH"); op {
		case "<", "<=", ">", ">=":
			e = &Expr{Op: op, Kids: []*Expr{e, d.bound()}}
		case "BETWEEN":
			e = &Expr{Op: not + op, Kids: []*Expr{e, d.bound(), d.bound()}}
		case "IN":
			e = &Expr{Op: not + op, Kids: []*Expr{e}}
			for range 1 + d.r.IntN(6) {
				e.List = append(e.List, d.text())
			}
		default:
			e = &Expr{Op: not + op, Kids: []*Expr{e}, List: []string{d.one("", "", "5", "e", d.text())}}
		}
	}
	return e
}

// bound is a right side of an order, mostly a number.
func (d *drawer) bound() *Expr {
	if d.r.IntN(4) == 0 {
		return d.unary()
	}
	return d.number()
}

func (d *drawer) unary() *Expr {
	if !d.more(5) {
		return d.primary()
	}
	return &Expr{Op: d.one("NOT", "NOT", "-", "+"), Kids: []*Expr{d.unary()}}
}

func (d *drawer) text() string { return texts[d.r.IntN(len(texts))] }

func (d *drawer) primary() *Expr {
	switch n := d.r.IntN(20); {
	case n < 10:
		return &Expr{Op: "property", Name: Names[d.r.IntN(len(Names))]}
	case n < 14 && d.left > 0:
		d.left--
		return &Expr{Op: "()", Kids: []*Expr{d.or()}}
	case n < 16:
		return d.number()
	case n < 18:
		s := d.text()
		return &Expr{Op: "literal", Lit: s, Text: quote(s)}
	case n < 19:
		b := d.r.IntN(2) == 0
		return &Expr{Op: "literal", Lit: b, Text: d.one(fmt.Sprint(b), strings.ToUpper(fmt.Sprint(b)))}
	default:
		return &Expr{Op: "literal", Text: d.one("NULL", "null")}
	}
}

func (d *drawer) number() *Expr {
	e := &Expr{Op: "literal"}
	switch d.r.IntN(8) {
	case 0:
		e.Lit, e.Text = int64(2147483648), "2147483648"
	case 1:
		e.Lit, e.Text = int64(9223372036854775807), d.one("9223372036854775807", "9223372036854775807l")
	case 2:
		e.Lit, e.Text = 5.5, d.one("5.5", "5.50", "55E-1", "0.55e+1", "05.5")
	case 3:
		e.Lit, e.Text = 5.0, d.one("5.", "5.0", "5E0", "5.e0")
	case 4:
		e.Lit, e.Text = 0.5, d.one(".5", ".5e0")
	case 5:
		e.Text, e.Bad = d.one("0.0", "9223372036854775808", "1e400", ".0", "1e-400"), true
	default:
		n := int32(d.r.IntN(11))
		e.Lit, e.Text = n, fmt.Sprint(n)
		if n > 0 {
			e.Text += d.one("", "", "L", "l")
		}
	}
	return e
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// String writes the filter with no more parentheses than the tree has, so that
// only the right precedence gives the tree back.
func (e *Expr) String() string {
	var b strings.Builder
	e.write(&b)
	return b.String()
}

func (e *Expr) write(b *strings.Builder) {
	switch e.Op {
	case "property":
		b.WriteString(e.Name)
	case "literal":
		b.WriteString(e.Text)
	case "()":
		b.WriteByte('(')
		e.Kids[0].write(b)
		b.WriteByte(')')
	case "NOT", "-", "+":
		b.WriteString(e.Op + " ")
		e.Kids[0].write(b)
	case "BETWEEN", "NOT BETWEEN":
		e.Kids[0].write(b)
		b.WriteString(" " + e.Op + " ")
		e.Kids[1].write(b)
		b.WriteString(" and ")
		e.Kids[2].write(b)
	default:
		e.Kids[0].write(b)
		b.WriteString(" " + e.Op)
		switch {
		case strings.HasSuffix(e.Op, "IN"):
			b.WriteString(" (")
			for i, s := range e.List {
				if i > 0 {
					b.WriteString(",")
				}
				b.WriteString(quote(s))
			}
			b.WriteString(")")
		case e.List != nil:
			b.WriteString(" " + quote(e.List[0]))
		case len(e.Kids) > 1:
			b.WriteString(" ")
			e.Kids[1].write(b)
		}
	}
}
