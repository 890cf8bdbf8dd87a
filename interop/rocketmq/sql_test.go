package rocketmq

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	letters "unicode"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/sqltest"
	"github.com/embermq/embermq/message"
)

// TestSQL: random conditions are accepted, refused and true exactly as for
// RocketMQ's filter.
func TestSQL(t *testing.T) {
	j, r := java(t), random(t, 42)
	const expressions, messages, round = 12_000, 8, 400
	accepted, matched := 0, 0
	for from := 0; from < expressions; from += round {
		var exprs []string
		for i := range round {
			exprs = append(exprs, sqltest.Random(r, i%12).String())
		}
		var properties []map[string]string
		var records []*message.Record
		for range messages {
			p := sqltest.Properties(r)
			// RocketMQ drops a property without a value when it stores it, and it takes
			// digits of other scripts for numbers, which we do not.
			maps.DeleteFunc(p, func(_, v string) bool { return v == "" || strings.ContainsFunc(v, otherDigit) })
			properties = append(properties, p)
			records = append(records, recordWith(t, p))
		}
		rows, err := j.SQL(t.Context(), exprs, properties)
		require.NoError(t, err)
		for i, expr := range exprs {
			f, err := message.SQL92(expr)
			if strings.HasPrefix(rows[i], "parse: ") {
				require.Error(t, err, "seed %d: RocketMQ refuses %s: %s", *seedFlag, expr, rows[i])
				continue
			}
			require.NoError(t, err, "seed %d: RocketMQ accepts %s", *seedFlag, expr)
			accepted++
			for k, rec := range records {
				require.Equal(t, rows[i][k] == 'T', f.Match(rec), "seed %d: %s\n%q: RocketMQ says %c", *seedFlag, expr, properties[k], rows[i][k])
				if rows[i][k] == 'T' {
					matched++
				}
			}
		}
	}
	fmt.Printf("SQL92: %d of %d conditions accepted by both, %d × %d answers equal, %d true\n", accepted, expressions, accepted, messages, matched)
	require.Greater(t, accepted, expressions/3)
	require.Greater(t, matched, accepted/2)
}

func otherDigit(c rune) bool { return c > letters.MaxASCII && letters.IsDigit(c) }

// recordWith makes a record with exactly these properties.
func recordWith(t *testing.T, properties map[string]string) *message.Record {
	t.Helper()
	var e message.Envelope
	for _, n := range slices.Sorted(maps.Keys(properties)) {
		e.Reserved = append(e.Reserved, message.Property{Name: n, Value: properties[n]})
	}
	var d message.Draft
	require.NoError(t, d.Encode(&message.Message{Topic: "t"}, message.Queue{Topic: "t"}, &e))
	d.Stamp(0, 0, 0)
	rec, err := message.ParseRecord(d.Bytes())
	require.NoError(t, err)
	return &rec
}
