package message

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// sqlParser builds the tree of a condition, one method for each level of
// precedence, loosest first. What RocketMQ refuses when it compiles, it refuses.
type sqlParser struct {
	sqlLexer
	tok   sqlToken // the one that is looked at
	depth int
}

func parseSQL(expr string) (sqlNode, error) {
	p := &sqlParser{sqlLexer: sqlLexer{src: expr}}
	if err := p.advance(); err != nil {
		return nil, err
	}
	at := p.tok.at
	root, err := p.or()
	if err != nil {
		return nil, err
	}
	// Here no sign can follow, so -- is a comment even if its line does not end.
	if p.tok.kind != sqlEnd && !strings.HasPrefix(expr[p.tok.at:], "--") {
		return nil, p.unexpected("AND, OR or the end")
	}
	return p.condition(root, at)
}

func (p *sqlParser) advance() (err error) {
	p.tok, err = p.next()
	return err
}

func (p *sqlParser) at(word string) bool { return p.tok.kind == sqlWord && p.tok.text == word }

// accept passes a word if it is there.
func (p *sqlParser) accept(word string) (bool, error) {
	if !p.at(word) {
		return false, nil
	}
	return true, p.advance()
}

func (p *sqlParser) expect(word string) error {
	if !p.at(word) {
		return p.unexpected(word)
	}
	return p.advance()
}

func (p *sqlParser) unexpected(want string) error {
	if p.tok.kind == sqlEnd {
		return p.fail(p.tok.at, "the text ends where "+want+" is expected")
	}
	return p.fail(p.tok.at, "expected "+want)
}

func (p *sqlParser) or() (sqlNode, error)  { return p.logic("OR", (*sqlParser).and) }
func (p *sqlParser) and() (sqlNode, error) { return p.logic("AND", (*sqlParser).equality) }

func (p *sqlParser) logic(word string, part func(*sqlParser) (sqlNode, error)) (sqlNode, error) {
	at := p.tok.at
	first, err := part(p)
	if err != nil || !p.at(word) {
		return first, err
	}
	if first, err = p.condition(first, at); err != nil {
		return nil, err
	}
	n := &sqlLogic{word: word, parts: []sqlNode{first}}
	for p.at(word) {
		if err := p.advance(); err != nil {
			return nil, err
		}
		at := p.tok.at
		next, err := part(p)
		if err == nil {
			next, err = p.condition(next, at)
		}
		if err != nil {
			return nil, err
		}
		n.parts = append(n.parts, next)
	}
	return n, nil
}

// condition makes a node that can be true: a property by itself is a test that
// no string passes.
func (p *sqlParser) condition(n sqlNode, at int) (sqlNode, error) {
	if v, ok := n.(sqlProperty); ok {
		return &sqlCast{v}, nil
	}
	if !isCondition(n) {
		return nil, p.fail(at, "neither true nor false")
	}
	return n, nil
}

func (p *sqlParser) equality() (sqlNode, error) {
	at := p.tok.at
	left, err := p.comparison()
	for chain := 0; err == nil; chain++ {
		if chain == maxSQLDepth {
			return nil, p.tooDeep()
		}
		op, opAt := p.tok.text, p.tok.at
		switch {
		case p.at("="), p.at("<>"):
			if err = p.advance(); err != nil {
				break
			}
			rightAt := p.tok.at
			var right sqlNode
			if right, err = p.comparison(); err != nil {
				break
			}
			if err = p.comparable(left, right, at, opAt, rightAt); err != nil {
				break
			}
			left = &sqlEqual{left, right}
			if op == "<>" {
				left = &sqlNot{left}
			}
		case p.at("IS"):
			left, err = p.isNull(left)
		default:
			return left, nil
		}
	}
	return nil, err
}

// comparable refuses what = and <> cannot compare.
func (p *sqlParser) comparable(left, right sqlNode, leftAt, opAt, rightAt int) error {
	l, lok := left.(*sqlConst)
	r, rok := right.(*sqlConst)
	switch {
	case lok && l.kind == sqlNull:
		return p.fail(leftAt, "NULL cannot be compared; use IS NULL")
	case rok && r.kind == sqlNull:
		return p.fail(rightAt, "NULL cannot be compared; use IS NULL")
	case lok && rok && l.kind == sqlBool && r.kind != sqlBool:
		return p.fail(opAt, "a boolean cannot be compared with this")
	}
	return nil
}

func (p *sqlParser) isNull(left sqlNode) (sqlNode, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	not, err := p.accept("NOT")
	if err == nil && !p.at("NULL") {
		err = p.unexpected("NULL")
	}
	if err == nil {
		err = p.advance()
	}
	if err != nil {
		return nil, err
	}
	return negated(&sqlIsNull{left}, not), nil
}

func negated(n sqlNode, not bool) sqlNode {
	if not {
		return &sqlNot{n}
	}
	return n
}

func (p *sqlParser) comparison() (sqlNode, error) {
	at := p.tok.at
	left, err := p.unary()
	for chain := 0; err == nil; chain++ {
		if chain == maxSQLDepth {
			return nil, p.tooDeep()
		}
		if p.at("<") || p.at("<=") || p.at(">") || p.at(">=") {
			left, err = p.order(left, at)
			continue
		}
		var not bool
		if not, err = p.accept("NOT"); err != nil {
			break
		}
		switch {
		case p.at("BETWEEN"):
			left, err = p.between(left, at, not)
		case p.at("IN"):
			left, err = p.in(left, at, not)
		case p.at("CONTAINS"), p.at("STARTSWITH"), p.at("ENDSWITH"):
			left, err = p.search(left, not)
		case not:
			return nil, p.unexpected("BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH")
		default:
			return left, nil
		}
	}
	return nil, err
}

func (p *sqlParser) order(left sqlNode, at int) (sqlNode, error) {
	op := p.tok.text
	if err := p.advance(); err != nil {
		return nil, err
	}
	rightAt := p.tok.at
	right, err := p.unary()
	if err != nil {
		return nil, err
	}
	if err := p.ordered(left, at); err != nil {
		return nil, err
	}
	if err := p.ordered(right, rightAt); err != nil {
		return nil, err
	}
	return &sqlOrder{op, left, right}, nil
}

// ordered refuses what has no order.
func (p *sqlParser) ordered(n sqlNode, at int) error {
	if c, ok := n.(*sqlConst); ok && !c.number() {
		return p.fail(at, "only numbers and properties have an order")
	}
	if isCondition(n) {
		return p.fail(at, "a condition has no order")
	}
	return nil
}

func (p *sqlParser) between(value sqlNode, at int, not bool) (sqlNode, error) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	lowAt := p.tok.at
	low, err := p.unary()
	if err == nil {
		err = p.expect("AND")
	}
	if err != nil {
		return nil, err
	}
	highAt := p.tok.at
	high, err := p.unary()
	if err != nil {
		return nil, err
	}
	for _, o := range []struct {
		n  sqlNode
		at int
	}{{value, at}, {low, lowAt}, {high, highAt}} {
		if err := p.ordered(o.n, o.at); err != nil {
			return nil, err
		}
	}
	if not {
		return &sqlLogic{"OR", []sqlNode{&sqlOrder{"<", value, low}, &sqlOrder{">", value, high}}}, nil
	}
	l, lok := low.(*sqlConst)
	h, hok := high.(*sqlConst)
	if lok && hok {
		if c, _ := compareSQL(h.sqlValue, l.sqlValue); c < 0 {
			return nil, p.fail(lowAt, "the lower bound lies above the upper one")
		}
	}
	return &sqlLogic{"AND", []sqlNode{&sqlOrder{">=", value, low}, &sqlOrder{"<=", value, high}}}, nil
}

func (p *sqlParser) in(left sqlNode, at int, not bool) (sqlNode, error) {
	name, ok := left.(sqlProperty)
	if !ok {
		return nil, p.fail(at, "only a property can be IN a list")
	}
	err := p.advance()
	if err == nil {
		err = p.expect("(")
	}
	n := &sqlIn{name: name, not: not}
	for more := true; more && err == nil; {
		var s string
		if s, err = p.quoted(); err == nil {
			n.list = append(n.list, s)
			more, err = p.accept(",")
		}
	}
	if err == nil {
		err = p.expect(")")
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(n.list)
	n.list = slices.Compact(n.list)
	return n, nil
}

func (p *sqlParser) search(left sqlNode, not bool) (sqlNode, error) {
	n := &sqlSearch{word: p.tok.text, left: left, not: not}
	err := p.advance()
	if err == nil {
		n.text, err = p.quoted()
	}
	if err != nil {
		return nil, err
	}
	return n, nil
}

// quoted takes a string and returns it without its quotes.
func (p *sqlParser) quoted() (string, error) {
	if p.tok.kind != sqlQuote {
		return "", p.unexpected("a string")
	}
	s := p.tok.text
	return strings.ReplaceAll(s[1:len(s)-1], "''", "'"), p.advance()
}

func (p *sqlParser) tooDeep() error {
	return p.fail(p.tok.at, "more than "+strconv.Itoa(maxSQLDepth)+" levels")
}

func (p *sqlParser) unary() (sqlNode, error) {
	if p.depth++; p.depth > maxSQLDepth {
		return nil, p.tooDeep()
	}
	defer func() { p.depth-- }()
	op := p.tok.text
	switch {
	case p.at("+"), p.at("-"), p.at("NOT"):
		if err := p.advance(); err != nil {
			return nil, err
		}
	default:
		return p.primary()
	}
	at := p.tok.at
	n, err := p.unary()
	if err != nil || op == "+" {
		return n, err
	}
	if op == "-" {
		return &sqlNegate{n}, nil
	}
	if n, err = p.condition(n, at); err != nil {
		return nil, err
	}
	return &sqlNot{n}, nil
}

func (p *sqlParser) primary() (n sqlNode, err error) {
	t := p.tok
	switch {
	case t.kind == sqlQuote:
		s, err := p.quoted()
		return &sqlConst{sqlValue{kind: sqlText, s: s}}, err
	case t.kind == sqlName:
		n = sqlProperty(t.text)
	case t.kind == sqlWhole:
		v, ok := parseSQLWhole(strings.TrimRight(t.text, "lL"))
		if !ok {
			return nil, p.fail(t.at, "integer over "+strconv.FormatInt(math.MaxInt64, 10))
		}
		n = &sqlConst{v}
	case t.kind == sqlPoint:
		// Like RocketMQ, which takes Java's smallest positive number for a lower bound.
		f, err := strconv.ParseFloat(t.text, 64)
		if err != nil || f == 0 {
			return nil, p.fail(t.at, "float beyond a double, or zero; write 0")
		}
		n = &sqlConst{floatValue(f)}
	case p.at("TRUE"), p.at("FALSE"):
		n = &sqlConst{boolValue(t.text == "TRUE")}
	case p.at("NULL"):
		n = &sqlConst{}
	case p.at("("):
		if err = p.advance(); err != nil {
			return nil, err
		}
		if n, err = p.or(); err != nil {
			return nil, err
		}
		return n, p.expect(")")
	default:
		return nil, p.unexpected("a property, a value or (")
	}
	return n, p.advance()
}

// parseSQLWhole reads an integer literal. The kind is the smallest that holds it,
// because a property beside it is read as that kind.
func parseSQLWhole(s string) (sqlValue, bool) {
	n, ok := javaInt(s, 64)
	kind := sqlLong
	if n <= math.MaxInt32 {
		kind = sqlInt
	}
	return sqlValue{kind: kind, n: n}, ok
}
