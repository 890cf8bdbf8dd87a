package sqltest

import (
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

// Accepted reports whether RocketMQ would compile the filter.
func (e *Expr) Accepted() bool {
	ok := true
	func() {
		defer func() {
			if recover() != nil {
				ok = false
			}
		}()
		e.check()
		e.condition()
	}()
	return ok
}

// Matches reports whether a message with these properties matches a filter that
// is accepted.
func (e *Expr) Matches(properties map[string]string) (yes bool) {
	defer func() {
		if recover() != nil {
			yes = false
		}
	}()
	return e.bare().truth(properties) == true
}

// bare takes off parentheses and plus signs, which leave nothing in the tree.
func (e *Expr) bare() *Expr {
	for e.Op == "()" || e.Op == "+" {
		e = e.Kids[0]
	}
	return e
}

func (e *Expr) isCondition() bool {
	switch e = e.bare(); e.Op {
	case "property", "-":
		return false
	case "literal":
		_, yes := e.Lit.(bool)
		return yes || e.Lit == nil
	}
	return true
}

// condition panics if e can be neither a condition nor a property that is cast to one.
func (e *Expr) condition() {
	if !e.isCondition() && e.bare().Op != "property" {
		panic("not a condition")
	}
}

func (e *Expr) check() {
	for _, k := range e.Kids {
		k.check()
	}
	if e.Bad {
		panic("literal")
	}
	switch e.Op {
	case "AND", "OR", "NOT":
		for _, k := range e.Kids {
			k.condition()
		}
	case "=", "<>":
		l, r := e.Kids[0].bare(), e.Kids[1].bare()
		for _, k := range []*Expr{l, r} {
			if k.Op == "literal" && k.Lit == nil {
				panic("null")
			}
		}
		_, lb := l.Lit.(bool)
		_, rb := r.Lit.(bool)
		if l.Op == "literal" && r.Op == "literal" && lb && !rb {
			panic("boolean with another literal")
		}
	case "<", "<=", ">", ">=", "BETWEEN", "NOT BETWEEN":
		for _, k := range e.Kids {
			k = k.bare()
			if k.isCondition() {
				panic("no order")
			}
			if _, text := k.Lit.(string); text {
				panic("no order")
			}
		}
		if e.Op == "BETWEEN" {
			l, h := e.Kids[1].bare(), e.Kids[2].bare()
			if l.Op == "literal" && h.Op == "literal" && compare(h.Lit, l.Lit) < 0 {
				panic("bounds")
			}
		}
	case "IN", "NOT IN":
		if e.Kids[0].bare().Op != "property" {
			panic("IN")
		}
	}
}

// truth is value for a place where a condition stands.
func (e *Expr) truth(p map[string]string) any {
	v := e.value(p)
	if _, text := v.(string); text {
		return false
	}
	return v
}

func (e *Expr) value(p map[string]string) any {
	e = e.bare()
	kid := func(i int) any { return e.Kids[i].bare().value(p) }
	switch e.Op {
	case "property":
		if s, ok := p[e.Name]; ok {
			return s
		}
		return nil
	case "literal":
		return e.Lit
	case "-":
		switch v := kid(0).(type) {
		case int32:
			return -v
		case int64:
			return -v
		case float64:
			return -v
		}
		return nil
	case "NOT":
		return not(e.Kids[0].truth(p))
	case "AND", "OR":
		return e.logic(p)
	case "=":
		return equal(kid(0), func() any { return kid(1) })
	case "<>":
		return not(equal(kid(0), func() any { return kid(1) }))
	case "IS NULL":
		return kid(0) == nil
	case "IS NOT NULL":
		return kid(0) != nil
	case "<", "<=", ">", ">=":
		return order(e.Op, kid(0), func() any { return kid(1) })
	case "BETWEEN":
		return and(order(">=", kid(0), func() any { return kid(1) }), func() any {
			return order("<=", kid(0), func() any { return kid(2) })
		})
	case "NOT BETWEEN":
		return or(order("<", kid(0), func() any { return kid(1) }), func() any {
			return order(">", kid(0), func() any { return kid(2) })
		})
	case "IN", "NOT IN":
		v := kid(0)
		if v == nil {
			return nil
		}
		found := false
		for _, s := range e.List {
			found = found || s == v
		}
		return found == (e.Op == "IN")
	}
	word, negated := strings.CutPrefix(e.Op, "NOT ")
	search := map[string]func(s, t string) bool{"CONTAINS": strings.Contains, "STARTSWITH": strings.HasPrefix, "ENDSWITH": strings.HasSuffix}[word]
	if e.List[0] == "" {
		return false
	}
	s, text := kid(0).(string)
	return text && search(s, e.List[0]) != negated
}

func (e *Expr) logic(p map[string]string) any {
	right := func() any { return e.Kids[1].truth(p) }
	if e.Op == "AND" {
		return and(e.Kids[0].truth(p), right)
	}
	return or(e.Kids[0].truth(p), right)
}

func not(v any) any {
	if v == nil {
		return nil
	}
	return !v.(bool)
}

func and(l any, right func() any) any {
	if l == false {
		return false
	}
	r := right()
	switch {
	case r == false:
		return false
	case l == nil || r == nil:
		return nil
	}
	return true
}

func or(l any, right func() any) any {
	if l == true {
		return true
	}
	r := right()
	switch {
	case r == true:
		return true
	case l == nil || r == nil:
		return nil
	}
	return false
}

func equal(l any, right func() any) any {
	r := right()
	switch {
	case l == nil && r == nil:
		return true
	case l == nil:
		return nil
	case r == nil:
		return false
	}
	return compare(l, r) == 0
}

func order(op string, l any, right func() any) any {
	if l == nil {
		return nil
	}
	r := right()
	if r == nil {
		return nil
	}
	_, ls := l.(string)
	_, rs := r.(string)
	if ls && rs {
		l, r = toDouble(l.(string)), toDouble(r.(string))
	}
	c := compare(l, r)
	switch op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	}
	return c >= 0
}

// compare is RocketMQ's table of kinds, row by row. It panics where that throws.
func compare(l, r any) int {
	ls, ltext := l.(string)
	rs, rtext := r.(string)
	switch {
	case ltext && rtext:
		return strings.Compare(ls, rs)
	case ltext:
		l = like(r, ls)
	case rtext:
		if _, b := l.(bool); b {
			panic("a boolean is no string")
		}
		r = like(l, rs)
	}
	lb, lbool := l.(bool)
	rb, rbool := r.(bool)
	switch {
	case lbool && rbool:
		if lb == rb {
			return 0
		}
		return 1
	case lbool || rbool:
		return -1
	}
	_, lf := l.(float64)
	_, rf := r.(float64)
	if lf || rf {
		return compareDoubles(asFloat(l), asFloat(r))
	}
	return big.NewInt(asInt(l)).Cmp(big.NewInt(asInt(r)))
}

func asInt(v any) int64 {
	if n, ok := v.(int32); ok {
		return int64(n)
	}
	return v.(int64)
}

func asFloat(v any) float64 {
	if f, ok := v.(float64); ok {
		return f
	}
	return float64(asInt(v))
}

func compareDoubles(a, b float64) int {
	bits := func(f float64) int64 {
		if f != f {
			return 0x7ff8000000000000
		}
		return int64(math.Float64bits(f))
	}
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	case bits(a) < bits(b):
		return -1
	case bits(a) > bits(b):
		return 1
	}
	return 0
}

// like reads s as the kind of v.
func like(v any, s string) any {
	switch v.(type) {
	case bool:
		return strings.ToLower(s) == "true"
	case int32:
		return int32(toInt(s, 32))
	case int64:
		return toInt(s, 64)
	}
	return toDouble(s)
}

var (
	isInt    = regexp.MustCompile(`^[+-]?[0-9]+$`)
	isDouble = regexp.MustCompile(`^[+-]?(NaN|Infinity|(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|0[xX]([0-9a-fA-F]+\.?|[0-9a-fA-F]*\.[0-9a-fA-F]+)[pP][+-]?[0-9]+)[fFdD]?)$`)
)

func toInt(s string, bits int) int64 {
	if !isInt.MatchString(s) {
		panic(fmt.Sprintf("%q is no integer", s))
	}
	n, err := strconv.ParseInt(s, 10, bits)
	if err != nil {
		panic(err)
	}
	return n
}

func toDouble(s string) float64 {
	s = strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
	if !isDouble.MatchString(s) {
		panic(fmt.Sprintf("%q is no number", s))
	}
	if strings.HasSuffix(s, "NaN") {
		return math.NaN()
	}
	if !strings.HasSuffix(s, "Infinity") {
		s = strings.TrimRight(s, "fFdD")
	}
	f, _ := strconv.ParseFloat(s, 64)
	return f
}
