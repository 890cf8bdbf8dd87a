package message_test

import (
	"errors"
	"flag"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/sqltest"
	"github.com/embermq/embermq/message"
)

var sqlFilters = flag.Int("sql.filters", 20_000, "random filters that TestSQL92Random compares")

// having makes a record with exactly these properties.
func having(t testing.TB, properties map[string]string) *message.Record {
	t.Helper()
	var e message.Envelope
	for _, n := range slices.Sorted(maps.Keys(properties)) {
		e.Reserved = append(e.Reserved, message.Property{Name: n, Value: properties[n]})
	}
	var d message.Draft
	require.NoError(t, d.Encode(&message.Message{Topic: "t"}, message.Queue{Topic: "t"}, &e))
	d.Stamp(0, 0, 0)
	r, err := message.ParseRecord(d.Bytes())
	require.NoError(t, err)
	return &r
}

func TestSQL92(t *testing.T) {
	type props = map[string]string
	rows := []struct {
		expr string
		p    props
		want bool
	}{
		// Operators.
		{"a = 5", props{"a": "5"}, true},
		{"a = 5", props{"a": "6"}, false},
		{"a <> 5", props{"a": "6"}, true},
		{"a <> 5", props{"a": "5"}, false},
		{"a > 5", props{"a": "6"}, true},
		{"a > 5", props{"a": "5"}, false},
		{"a >= 5", props{"a": "5"}, true},
		{"a < 5", props{"a": "4"}, true},
		{"a < 5", props{"a": "5"}, false},
		{"a <= 5", props{"a": "5"}, true},
		{"a BETWEEN 1 AND 3", props{"a": "1"}, true},
		{"a BETWEEN 1 AND 3", props{"a": "3"}, true},
		{"a BETWEEN 1 AND 3", props{"a": "4"}, false},
		{"a NOT BETWEEN 1 AND 3", props{"a": "4"}, true},
		{"a NOT BETWEEN 1 AND 3", props{"a": "2"}, false},
		{"2 BETWEEN a AND b", props{"a": "1", "b": "3"}, true},
		{"a BETWEEN -5 AND -7", props{"a": "-6"}, false}, // signs are no literals: not refused
		{"a NOT BETWEEN 3 AND 1", props{"a": "2"}, true},
		{"a IN ('x', 'y')", props{"a": "y"}, true},
		{"a IN ('x', 'y')", props{"a": "z"}, false},
		{"a NOT IN ('x', 'y')", props{"a": "z"}, true},
		{"a NOT IN ('x', 'y')", props{"a": "x"}, false},
		{"(a) IN ('1','2','3','4','5','6','7')", props{"a": "7"}, true},
		{"a IS NULL", nil, true},
		{"a IS NULL", props{"a": "1"}, false},
		{"a IS NOT NULL", props{"a": "1"}, true},
		{"a IS NOT NULL", nil, false},
		{"(a = 1) IS NULL", nil, true},
		{"a CONTAINS 'ell'", props{"a": "hello"}, true},
		{"a CONTAINS 'elf'", props{"a": "hello"}, false},
		{"a NOT CONTAINS 'elf'", props{"a": "hello"}, true},
		{"a STARTSWITH 'he'", props{"a": "hello"}, true},
		{"a NOT STARTSWITH 'he'", props{"a": "hello"}, false},
		{"a ENDSWITH 'lo'", props{"a": "hello"}, true},
		{"a NOT ENDSWITH 'lo'", props{"a": "hello"}, false},
		{"a CONTAINS ''", props{"a": "hello"}, false},
		{"a NOT CONTAINS ''", props{"a": "hello"}, false},
		{"'hello' CONTAINS 'ell'", nil, true},
		{"5 CONTAINS '5'", nil, false},
		{"5 NOT CONTAINS '6'", nil, false},
		{"a = -5", props{"a": "-5"}, true},
		{"a = - -5", props{"a": "5"}, true},
		{"a = +5", props{"a": "5"}, true},
		{"a = -5.5", props{"a": "-5.5"}, true},
		{"-a = 5", props{"a": "-5"}, false}, // a sign makes null of what is no number
		{"-a IS NULL", props{"a": "5"}, true},
		{"-TRUE IS NULL", nil, true},
		{"(a = 1 OR b = 1) AND c = 1", props{"b": "1", "c": "1"}, true},
		{"TRUE", nil, true},
		{"FALSE", nil, false},
		{"NULL", nil, false},

		// Precedence: OR < AND < {= <> IS} < {< BETWEEN IN CONTAINS} < {NOT signs}.
		{"a = 1 OR b = 1 AND c = 1", props{"a": "1"}, true},
		{"(a = 1 OR b = 1) AND c = 1", props{"a": "1"}, false},
		{"NOT a = 1", props{"a": "2"}, false}, // (NOT a) = 1: a boolean is no number
		{"NOT a <> 1", props{"a": "2"}, true}, // the same way
		{"NOT (a = 1)", props{"a": "2"}, true},
		{"NOT (a = 1)", props{"a": "1"}, false},
		{"a < 5 = TRUE", props{"a": "4"}, true},
		{"TRUE = a < 5", props{"a": "4"}, true},
		{"a IN ('x') = b IN ('y')", props{"a": "x", "b": "y"}, true},
		{"a = 1 IS NOT NULL", props{"a": "2"}, true}, // from the left: (a = 1) IS NOT NULL
		{"a = 1 = TRUE", props{"a": "1"}, true},

		// Lexis.
		{"a = 1 aNd b iS nOt NuLl", props{"a": "1", "b": "1"}, true},
		{"A = 1", props{"a": "1"}, false},
		{"$a_1 = 1", props{"$a_1": "1"}, true},
		{"a = 'it''s'", props{"a": "it's"}, true},
		{"a = ''", nil, false},
		{"a = 5L", props{"a": "5"}, true},
		{"a = 5l", props{"a": "5"}, true},
		{"a = 5.", props{"a": "5"}, true},
		{"a = .5", props{"a": "0.5"}, true},
		{"a = 5E3", props{"a": "5000"}, true},
		{"a = 5e-1", props{"a": ".5"}, true},
		{"a = true", props{"a": "TRUE"}, true},
		{"a/* x * / */= /**/ 1", props{"a": "1"}, true},
		{"a = -- five\n5", props{"a": "5"}, true},
		{"a = -- five\r5", props{"a": "5"}, true},
		{"a = --5", props{"a": "5"}, true}, // no line ends: two signs
		{"a = 5 -- five", props{"a": "5"}, true},
		{"a\t=\f1\r\n", props{"a": "1"}, true},

		// Kinds.
		{"a = 5", props{"a": "5.0"}, false},
		{"a <> 5", props{"a": "5.0"}, false}, // fails, so it is not unequal either
		{"NOT (a = 5)", props{"a": "x"}, false},
		{"a = 5.0", props{"a": "5"}, true},
		{"a = 5.0", props{"a": " 5.0f "}, true},
		{"a < 5.0", props{"a": "-Infinity"}, true},
		{"a > 5.0", props{"a": "NaN"}, true},
		{"a = b", props{"a": "NaN", "b": "NaN"}, true},
		{"a = 5.0", props{"a": "0x1.4p2"}, true},
		{"a = 5", props{"a": "+5"}, true},
		{"a = 5", props{"a": " 5"}, false},
		{"a < 5", props{"a": "3000000000"}, false}, // no 32-bit integer
		{"a > 5", props{"a": "3000000000"}, false},
		{"a > 2147483648", props{"a": "3000000000"}, true}, // beside 64 bits it is one
		{"a > -5", props{"a": "-3"}, true},
		{"5 = a", props{"a": "5"}, true},
		{"5.5 > a", props{"a": "5"}, true},
		{"5 = 5.0", nil, true},
		{"2147483648 > 1", nil, true},
		{"a = TRUE", props{"a": "tRuE"}, true},
		{"a = FALSE", props{"a": "anything"}, true},
		{"a <> TRUE", props{"a": "anything"}, true},
		{"TRUE = a", props{"a": "true"}, false}, // fails
		{"TRUE <> a", props{"a": "true"}, false},
		{"(b = 1) = a", props{"a": "true", "b": "1"}, false},
		{"5 = TRUE", nil, false},
		{"'true' = TRUE", nil, true},
		{"a = 'x'", props{"a": "x"}, true},
		{"a <> 'x'", props{"a": "y"}, true},
		{"a = b", props{"a": "5", "b": "5.0"}, false}, // as strings
		{"a > b", props{"a": "10", "b": "9"}, true},   // as floats
		{"a >= b", props{"a": "5", "b": "5.0"}, true},
		{"a > b", props{"a": "x", "b": "9"}, false},
		{"NOT (a > b)", props{"a": "x", "b": "9"}, false},
		{"a < b", props{"a": "-0", "b": "0"}, true},

		// Null.
		{"a = 5", nil, false},
		{"a <> 5", nil, false},
		{"NOT (a = 5)", nil, false},
		{"a > 5", nil, false},
		{"NOT (a > 5)", nil, false},
		{"NOT (5 > a)", nil, false},
		{"5 = a", nil, false},
		{"5 <> a", nil, true}, // null on the right alone: not equal
		{"a = b", nil, true},
		{"a = 1 AND b = 1", props{"b": "1"}, false},
		{"NOT (a = 1 AND b = 1)", props{"b": "2"}, true},  // false wins over null
		{"NOT (b = 1 AND a = 1)", props{"b": "2"}, true},  // also from the left
		{"NOT (a = 1 AND b = 1)", props{"b": "1"}, false}, // null
		{"a = 1 OR b = 1", props{"b": "1"}, true},         // true wins over null
		{"NOT (a = 1 OR b = 1)", props{"b": "2"}, false},  // null
		{"a IN ('x')", nil, false},
		{"a NOT IN ('x')", nil, false},
		{"NOT (a IN ('x'))", nil, false},
		{"a CONTAINS 'x'", nil, false},
		{"a NOT CONTAINS 'x'", nil, false},
		{"NOT (a CONTAINS 'x')", nil, true}, // false, not null
		{"NOT (a NOT ENDSWITH 'x')", nil, true},
		{"a BETWEEN 1 AND 3", nil, false},
		{"a NOT BETWEEN 1 AND 3", nil, false},

		// A failure ends everything, unless it is never come to.
		{"a = 5 OR TRUE", props{"a": "x"}, false},
		{"TRUE OR a = 5", props{"a": "x"}, true},
		{"NOT (FALSE AND a = 5)", props{"a": "x"}, true},
		{"(a = 5) IS NULL", props{"a": "x"}, false},
		{"(a = 5) CONTAINS 'x'", props{"a": "x"}, false},

		// A bare property is a condition that is never true.
		{"a", props{"a": "true"}, false},
		{"NOT a", props{"a": "true"}, true},
		{"NOT a", nil, false},
		{"a OR b = 1", props{"a": "true", "b": "1"}, true},

		// RocketMQ's own properties.
		{"TAGS = 'paid'", props{"TAGS": "paid"}, true},
		{"TAGS IS NOT NULL AND TAGS IN ('paid', 'sent')", props{"TAGS": "sent"}, true},
		{"KEYS CONTAINS 'k1'", props{"KEYS": "k0 k1"}, true},
		{"__SHARDINGKEY = '7'", props{"__SHARDINGKEY": "7"}, true},
	}
	for _, row := range rows {
		f, err := message.SQL92(row.expr)
		require.NoError(t, err, row.expr)
		require.Nil(t, f.Hashes())
		r := having(t, row.p)
		require.Equal(t, row.want, f.Match(r), "%s\n%v", row.expr, row.p)
		again, err := message.SQL92(f.String())
		require.NoError(t, err, f.String())
		require.Equal(t, row.want, again.Match(r), "normal form of %s: %s", row.expr, f)
		require.Equal(t, f.String(), again.String())
		require.Zero(t, testing.AllocsPerRun(10, func() { f.Match(r) }), row.expr)
	}
}

func TestSQL92Refuses(t *testing.T) {
	rows := []struct {
		expr   string
		column int
	}{
		{"", 1},
		{"  ", 3},
		{"a =", 4},
		{"a = 5 b", 7},
		{"a == 5", 4},
		{"a != 5", 3},
		{"a ! = 5", 3},
		{"ü = 5", 1},
		{"a = 'ü' AND ü", 13}, // characters, not bytes
		{"a = 'x", 5},
		{"a = 'x''", 5},
		{"a = '\xff'", 5},
		{"a /* = 5", 3},
		{"a LIKE 'x%'", 3},
		{"a + 1 = 2", 3},
		{"a = 1 + 1", 7},
		{"upper(a) = 'X'", 6},
		{"(a = 5", 7},
		{"a = 5)", 6},
		{"()", 2},
		{"AND", 1},
		{"a AND", 6},
		{"a NOT 5", 7},
		{"a NOT = 5", 7},
		{"a IS 5", 6},
		{"a IS NOT 5", 10},
		{"a IS TRUE", 6},

		{"a = NULL", 5},
		{"NULL = a", 1},
		{"a <> NULL", 6},
		{"a < NULL", 5},
		{"a < TRUE", 5},
		{"a < 'x'", 5},
		{"'x' < a", 1},
		{"(a = 1) < 5", 1},
		{"a > (b = 1)", 5},
		{"1 < a < 3", 1}, // no chains: 1 < a is a condition
		{"a BETWEEN 3 AND 1", 11},
		{"a BETWEEN 3.5 AND 1", 11},
		{"a BETWEEN NULL AND 1", 11},
		{"a BETWEEN 1 AND NULL", 17},
		{"a BETWEEN 'x' AND 'y'", 11},
		{"a BETWEEN 1", 12},
		{"a NOT BETWEEN 1 AND 'y'", 21},
		{"a IN 'x'", 6},
		{"a IN ()", 7},
		{"a IN (5)", 7},
		{"a IN ('x' 'y')", 11},
		{"a IN ('x',)", 11},
		{"'a' IN ('x')", 1},
		{"5 IN ('x')", 1},
		{"-a IN ('x')", 1},
		{"a CONTAINS 5", 12},
		{"a CONTAINS b", 12},
		{"5", 1},
		{"'x'", 1},
		{"-a", 1},
		{"a = 1 AND 5", 11},
		{"5 OR a = 1", 1},
		{"NOT 5", 5},
		{"TRUE = 5", 6},
		{"TRUE = 'x'", 6},

		{"a = 0.0", 5},
		{"a = 1e-400", 5},
		{"a = 1e400", 5},
		{"a = 9223372036854775808", 5},
		{"a = -9223372036854775808", 6},
		{"a = 007", 6},
		{"a = 0L", 6},
		{"a = 5x", 6},
	}
	for _, row := range rows {
		f, err := message.SQL92(row.expr)
		require.Nil(t, f, row.expr)
		var e *message.FilterError
		require.ErrorAs(t, err, &e, row.expr)
		require.ErrorIs(t, err, message.ErrInvalidMessage)
		require.Equal(t, row.column, e.Column, "%s: %v", row.expr, err)
		require.NotEmpty(t, e.Reason)
		require.Less(t, len(e.Error()), 200)
	}
	_, err := message.SQL92("1 < a < 3")
	require.EqualError(t, err, `invalid filter: column 1: a condition has no order near "1 < a < 3"`)
}

// No text can exhaust memory or the stack.
func TestSQL92Limits(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("(", n) + "a = 1" + strings.Repeat(")", n) }
	accepted := []string{
		nested(90),
		strings.Repeat("NOT ", 90) + "a",
		"a = 1" + strings.Repeat(" OR a = 1", 7000), // width is no depth
		"a IN ('x'" + strings.Repeat(",'x'", 16000) + ")",
		"a = 1" + strings.Repeat(" = TRUE", 90),
	}
	for _, expr := range accepted {
		f, err := message.SQL92(expr)
		require.NoError(t, err)
		require.NotPanics(t, func() { f.Match(having(t, map[string]string{"a": "2"})) })
	}
	for _, expr := range []string{
		nested(200), nested(30000), strings.Repeat("NOT ", 16000) + "a", "a = " + strings.Repeat("- ", 30000) + "1",
		"a = 1" + strings.Repeat(" = TRUE", 8000), "a" + strings.Repeat(" CONTAINS 'x'", 4000),
		strings.Repeat("x", message.MaxSQL92+1), strings.Repeat("'", message.MaxSQL92-1),
	} {
		_, err := message.SQL92(expr)
		var e *message.FilterError
		require.ErrorAs(t, err, &e)
		require.Less(t, len(e.Error()), 200)
	}
}

// Random filters and messages get the answers of a naive evaluation that never
// saw the text.
func TestSQL92Random(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	accepted, matched := 0, 0
	for i := range *sqlFilters {
		e := sqltest.Random(r, i%12)
		expr := e.String()
		f, err := message.SQL92(expr)
		require.Equal(t, e.Accepted(), err == nil, "seed %d: %s: %v", seed, expr, err)
		if err != nil {
			require.True(t, errors.Is(err, message.ErrInvalidMessage))
			continue
		}
		accepted++
		again, err := message.SQL92(f.String())
		require.NoError(t, err, "normal form of %s: %s", expr, f)
		require.Equal(t, f.String(), again.String())
		for range 8 {
			p := sqltest.Properties(r)
			want := e.Matches(p)
			rec := having(t, p)
			require.Equal(t, want, f.Match(rec), "seed %d: %s\n%q", seed, expr, p)
			require.Equal(t, want, again.Match(rec), "seed %d: %s\nnormal form %s\n%q", seed, expr, f, p)
			if want {
				matched++
			}
		}
	}
	// It would prove little if nearly all were refused, or nothing matched.
	require.Greater(t, accepted, *sqlFilters/3)
	require.Greater(t, matched, accepted)
}

// Any text is a filter or is not; a filter has a normal form that is the same
// filter, and takes any record.
func FuzzSQL92(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 30 {
		f.Add(sqltest.Random(r, i).String(), "5", "x")
	}
	f.Add("a = --5", "5", "")
	f.Add("a/**/=-- x\n'it''s'", "it's", "")
	f.Add("\x00'\xff", "\xff", "\x7f")
	f.Fuzz(func(t *testing.T, expr, a, tag string) {
		filter, err := message.SQL92(expr)
		if err != nil {
			var e *message.FilterError
			require.ErrorAs(t, err, &e)
			require.Positive(t, e.Column)
			require.NotEmpty(t, e.Error())
			return
		}
		again, err := message.SQL92(filter.String())
		if len(filter.String()) > message.MaxSQL92 {
			return
		}
		var deep *message.FilterError
		if errors.As(err, &deep) && strings.Contains(deep.Reason, "levels") {
			return // the normal form has more parentheses
		}
		require.NoError(t, err, filter.String())
		require.Equal(t, filter.String(), again.String())
		if a == "" || strings.ContainsAny(a+tag, "\x01\x02") || len(a)+len(tag) > 1<<12 {
			return
		}
		p := map[string]string{"a": a, "b": a}
		if tag != "" {
			p["TAGS"] = tag
		}
		rec := having(t, p)
		require.Equal(t, filter.Match(rec), again.Match(rec))
	})
}

func BenchmarkSQL92(b *testing.B) {
	r := having(b, map[string]string{"TAGS": "paid", "color": "red", "price": "42", "region": "eu-west-1", "weight": "5.25"})
	for _, expr := range []string{
		"TAGS = 'paid'",
		"price > 10",
		"weight BETWEEN 5 AND 6.5",
		"color IN ('red', 'green') AND price > 10 AND region STARTSWITH 'eu-' AND missing IS NULL",
	} {
		b.Run(strings.ReplaceAll(expr, " ", "_"), func(b *testing.B) {
			f, err := message.SQL92(expr)
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				f.Match(r)
			}
		})
	}
	b.Run("compile", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = message.SQL92("color IN ('red', 'green') AND price > 10 AND region STARTSWITH 'eu-' AND missing IS NULL")
		}
	})
}
