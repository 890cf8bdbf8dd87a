package rocketmq

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/interop/rocketmq/oracle"
)

// TestSQLAnswers pins down what the oracle says about SQL92: later comparisons
// rely on it.
func TestSQLAnswers(t *testing.T) {
	j := java(t)
	rows, err := j.SQL(t.Context(),
		[]string{"a > 5", "a IS NULL", "a BETWEEN 1 AND 9 AND b = 'x'", "a >", "b IN ('x', 'y')"},
		[]map[string]string{{"a": "6", "b": "x"}, {"b": "z"}, {"a": "text"}})
	require.NoError(t, err)
	require.Len(t, rows, 5)
	require.Regexp(t, `^parse: `, rows[3])
	rows[3] = "parse"
	// A comparison with a property that is not there is no boolean.
	require.Equal(t, []string{"TNE", "FTF", "TFE", "parse", "TFN"}, rows)
}

// TestAllocationAnswers: every strategy gives each queue to exactly one
// consumer, so that later comparisons start from sense.
func TestAllocationAnswers(t *testing.T) {
	j := java(t)
	consumers := []string{"room1@a", "room1@b", "room2@c"}
	var queues []oracle.AllocateQueue
	for i := range 8 {
		queues = append(queues, oracle.AllocateQueue{Topic: "t", Broker: fmt.Sprintf("room%d@x", 1+i/4), Queue: i % 4})
	}
	for _, a := range []oracle.Allocation{
		{Strategy: "average"}, {Strategy: "circle"}, {Strategy: "hash", Virtual: 10}, {Strategy: "nearby"},
	} {
		var all []int
		for _, c := range consumers {
			a.Group, a.Consumer, a.Consumers, a.Queues = "g", c, consumers, queues
			got, err := j.Allocate(t.Context(), a)
			require.NoError(t, err, a.Strategy)
			all = append(all, got...)
		}
		slices.Sort(all)
		require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7}, all, a.Strategy)
	}
	fixed, err := j.Allocate(t.Context(), oracle.Allocation{Strategy: "config", Group: "g", Consumer: "room1@a", Consumers: consumers, Queues: queues, Fixed: []int{2, 5}})
	require.NoError(t, err)
	require.Equal(t, []int{2, 5}, fixed)
	_, err = j.Allocate(t.Context(), oracle.Allocation{Strategy: "room", Group: "g", Consumer: "room1@a", Consumers: consumers, Queues: queues, Rooms: []string{"room1"}})
	require.NoError(t, err)
}
