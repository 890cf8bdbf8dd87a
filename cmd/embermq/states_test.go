package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/store"
)

// What a command answers: its exit code and a part of what it says.
type answer struct {
	code int
	says string
}

// missing is for what an empty store does not have, alone for commands that need the
// directory for themselves, asked for those that only the owner could answer, and
// broken for those that need a store that opens.
var (
	missing = answer{1, "not found"}
	alone   = answer{1, "needs the directory for itself"}
	asked   = answer{1, "known only to the process that has"}
	broken  = answer{1, "embermq repair"}
	full    = answer{1, "exists already"}
	taken   = answer{2, "not empty"}
)

// states has a row for each command: what it answers in an empty store, in one with a
// damaged record in the middle, in one whose last record lost its checksum, so that it
// does not open, and beside a process that has the store open. TestExamples has the store
// that is whole.
var states = []struct {
	line                            string
	empty, rotten, unopened, beside answer
}{
	{"echo x | embermq put orders", answer{0, "orders/"}, answer{0, "orders/"}, broken, alone},
	{"embermq peek orders", missing, answer{1, "checksum differs"}, answer{0, "order 42 was refunded"}, answer{0, "order 42 was paid"}},
	{"embermq tail orders", missing, answer{1, "checksum differs"}, answer{0, "order 42 was refunded"}, answer{0, "order 42 was shipped"}},
	{"embermq query orders --key 42", answer{0, ""}, answer{0, "order 42 was refunded"}, answer{0, "order 42 was shipped"}, answer{0, "order 42 was shipped"}},
	{"embermq topic ls", answer{0, ""}, answer{0, "scratch"}, answer{0, "scratch"}, answer{0, "scratch"}},
	{"embermq topic create new", answer{0, ""}, answer{0, ""}, broken, alone},
	{"embermq topic update orders --queues 8", missing, answer{0, ""}, broken, alone},
	{"embermq topic delete orders", missing, answer{0, ""}, broken, alone},
	{"embermq group ls", answer{0, ""}, broken, broken, asked}, // it counts their lag
	{"embermq group create new", answer{0, ""}, answer{0, ""}, broken, alone},
	{"embermq group update billing --disabled", missing, answer{0, ""}, broken, alone},
	{"embermq group rm billing", missing, answer{0, ""}, broken, alone},
	{"embermq group members billing", missing, answer{0, "members  0"}, broken, asked},
	{"embermq group lag billing", missing, broken, broken, asked},
	{"embermq group reset billing orders --to first", missing, answer{0, ""}, broken, alone},
	{"embermq group clone billing new orders", missing, answer{0, ""}, broken, alone},
	{"embermq dlq ls", answer{0, ""}, answer{0, "billing"}, broken, asked},
	{"embermq dlq show billing dead-1", missing, answer{0, "bill dead-1"}, broken, asked},
	{"embermq dlq redrive billing --all", answer{0, "sent  0"}, answer{0, "sent  2"}, broken, alone},
	{"embermq dlq rm billing --all", answer{0, "removed  0"}, answer{0, "removed  2"}, broken, alone},
	{"embermq retry ls billing", missing, answer{0, "again-1"}, broken, asked},
	{"embermq move billing orders scratch", missing, broken, broken, alone}, // what comes before the damage is moved
	{"embermq timer ls", answer{0, ""}, answer{0, "reminder-42"}, broken, asked},
	{"embermq timer cancel reminder-42", answer{0, "unknown"}, answer{0, "cancelled"}, broken, alone},
	{"embermq tx ls", answer{0, ""}, answer{0, "half-1"}, broken, asked},
	{"embermq tx commit half-1", missing, answer{0, "Committed"}, broken, alone},
	{"embermq tx rollback half-1", missing, answer{0, "RolledBack"}, broken, alone},
	{"embermq tx recover half-3", missing, answer{0, "Committed"}, broken, alone},
	{"embermq stats", answer{0, "log end"}, answer{0, "log end"}, answer{0, "log end"}, answer{0, "log end"}},
	{"embermq check", answer{0, "sound"}, answer{1, "checksum differs"}, answer{1, "watermark"}, answer{0, "sound"}},
	{"embermq repair", answer{0, "sound"}, answer{0, "repair-1"}, answer{0, "repair-1"}, alone},
	{"embermq dump data/commitlog/00000000000000000000", answer{0, "zeros to the end"}, answer{0, "damaged record"},
		answer{0, "zeros to the end"}, answer{0, "order 42 was shipped"}},
	{"embermq backup copies", answer{0, "bytes copied   0"}, answer{0, "bytes copied"}, broken, alone},
	{"embermq restore backup", full, full, full, alone},
	{"embermq fork trial", answer{0, ""}, answer{0, ""}, broken, alone},
	{"embermq export-rocketmq out", answer{0, "broker.conf"}, answer{0, "broker.conf"}, broken, alone},
	{"embermq import-rocketmq", answer{0, "topics"}, broken, broken, alone},
	{"embermq bench --for 2ms", answer{0, "drain"}, answer{0, "drain"}, answer{0, "drain"}, answer{0, "drain"}}, // works beside it
	{"embermq torture --for 2ms", taken, taken, taken, taken},
}

// damage flips a bit of a text in the log.
func damage(t testing.TB, text string) {
	t.Helper()
	name := filepath.Join("data", "commitlog", "00000000000000000000")
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	at := bytes.LastIndex(b, []byte(text))
	require.Positive(t, at)
	b[at] ^= 1
	require.NoError(t, os.WriteFile(name, b, 0o600))
}

func TestEveryCommandInEveryState(t *testing.T) {
	var names []string
	for _, row := range states {
		_, line, _ := strings.Cut("| "+row.line, "| embermq ")
		names = append(names, line)
		for state, c := range map[string]struct {
			prepare func(t testing.TB)
			want    answer
		}{
			"empty": {func(t testing.TB) {
				require.NoError(t, os.RemoveAll("data"))
				s, err := store.Open("data", store.WithSegmentSize(1<<20), store.WithIndexSizes(64, 4096))
				require.NoError(t, err)
				require.NoError(t, s.Close())
			}, row.empty},
			"rotten":   {func(t testing.TB) { damage(t, "order 42 was shipped") }, row.rotten},
			"unopened": {func(t testing.TB) { damage(t, "__CRC32#") }, row.unopened},
			"beside": {func(t testing.TB) {
				s, err := store.Open("data")
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, s.Close()) })
			}, row.beside},
		} {
			t.Run(strings.ReplaceAll(line, " ", "_")+"/"+state, func(t *testing.T) {
				sample(t)
				c.prepare(t)
				out, code := sh(t, row.line)
				require.Equal(t, c.want.code, code, "%s", out)
				require.Contains(t, out, c.want.says)
			})
		}
	}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if path := strings.TrimPrefix(c.CommandPath(), "embermq "); !c.HasSubCommands() && c.Name() != "help" && !c.Hidden {
			require.True(t, hasRow(names, path), "%s has no row", path)
		}
	}
	walk((&app{}).root())
}

func hasRow(lines []string, command string) bool {
	for _, line := range lines {
		if line == command || strings.HasPrefix(line, command+" ") {
			return true
		}
	}
	return false
}
