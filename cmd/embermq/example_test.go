package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// sample makes a directory in which every example of the help makes sense: the
// store in "data", and a backup of it in "backup".
func sample(t testing.TB) {
	t.Helper()
	t.Chdir(t.TempDir())
	t.Setenv("EMBERMQ_DIR", "")
	ctx := t.Context()
	s, err := store.Open("data", store.WithSegmentSize(1<<20), store.WithIndexSizes(64, 4096),
		store.WithTransactions(store.Transactions{Timeout: time.Millisecond, Interval: time.Millisecond, MaxChecks: 1}))
	require.NoError(t, err)
	for i, tag := range []string{"paid", "shipped", "paid", "refunded", "paid"} {
		_, err := s.Put(ctx, &message.Message{Topic: "orders", QueueID: int32(i % 2), Tag: tag, Keys: []string{"42"}, Body: []byte("order 42 was " + tag)})
		require.NoError(t, err)
	}
	_, err = s.Put(ctx, &message.Message{Topic: "reminders", UniqueID: "reminder-42", Delay: time.Hour, Body: []byte("pay")})
	require.NoError(t, err)
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "scratch"}))
	for id, group := range map[string]string{"half-1": "bank", "half-2": "bank", "half-3": "forgetful"} {
		_, _, err = s.Halves().Prepare(ctx, &message.Message{Topic: "orders", UniqueID: id, Body: []byte("x")}, group, message.HalfOptions{})
		require.NoError(t, err)
	}
	// Nobody is asked about the bank's halves; the forgetful group's is given up.
	stop, err := s.Halves().OnCheck("forgetful", func(context.Context, *message.Half) (message.Decision, error) {
		return message.Undecided, nil
	}, message.CheckOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.Halves().GivenUp() == 1 }, time.Minute, time.Millisecond)
	stop()
	_, err = s.Backup(ctx, "backup")
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

// sh runs a line of a help text: words with quotes, and "echo … |" in front.
func sh(t testing.TB, line string) (out string, code int) {
	t.Helper()
	var in string
	if before, after, ok := strings.Cut(line, " | embermq "); ok {
		fed, ok := strings.CutPrefix(before, "echo ")
		require.True(t, ok, "only echo feeds a command: %s", line)
		in, line = strings.Trim(fed, `"'`)+"\n", "embermq "+after
	}
	words := split(line)
	require.Equal(t, "embermq", words[0], line)
	var o, e bytes.Buffer
	code = run(t.Context(), words[1:], strings.NewReader(in), &o, &e)
	return o.String() + e.String(), code
}

func split(line string) (words []string) {
	var w strings.Builder
	quote, any := rune(0), false
	for _, r := range line + " " {
		switch {
		case quote == 0 && (r == '"' || r == '\''):
			quote, any = r, true
		case r == quote:
			quote = 0
		case quote == 0 && r == ' ':
			if w.Len() > 0 || any {
				words = append(words, w.String())
			}
			w.Reset()
			any = false
		default:
			w.WriteRune(r)
		}
	}
	return words
}

// TestExamples runs the examples of every command's help.
func TestExamples(t *testing.T) {
	commands := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if c.HasSubCommands() || c.Name() == "help" {
			return
		}
		commands++
		t.Run(strings.ReplaceAll(c.CommandPath(), " ", "_"), func(t *testing.T) {
			require.NotEmpty(t, strings.TrimSpace(c.Example), "%s has no example", c.CommandPath())
			for line := range strings.Lines(c.Example) {
				sample(t)
				out, code := sh(t, strings.TrimSpace(line))
				require.Zero(t, code, "%s\n%s", line, out)
			}
		})
	}
	walk((&app{}).root())
	require.Greater(t, commands, 15)
}

func TestWhatItSays(t *testing.T) {
	sample(t)
	for _, c := range []struct {
		line string
		code int
		says []string
	}{
		{"embermq", 0, []string{"Messages:", "The directory:"}},
		{"embermq peek orders --queue 0 --tags paid", 0, []string{"orders/0", "order 42 was paid"}},
		{`embermq peek orders --queue 0 --json --sql "TAGS = 'paid'"`, 0, []string{`"offset":0`, `"body":"order 42 was paid"`}},
		{"embermq peek nothing", 1, []string{"nothing", "not found"}},
		{"embermq peek", 2, []string{"arg(s)"}},
		{"embermq peek orders --nonsense", 2, []string{"nonsense"}},
		{"embermq peek orders --sql =", 2, []string{"column"}},
		{"embermq query orders", 2, []string{"key"}},
		{"embermq query orders --key 42 --json", 0, []string{`"state":"visible"`}},
		{"embermq --dir nowhere stats", 2, []string{"no store", "nowhere"}},
		{"embermq --dir nowhere put orders", 2, []string{"no store"}},
		{"embermq topic ls", 0, []string{"orders", "scratch", "reminders"}},
		{"embermq topic create orders", 1, []string{"exists"}},
		{"embermq topic create x --kind blue", 2, []string{"blue"}},
		{"embermq timer ls", 0, []string{"reminder-42"}},
		{"embermq timer cancel reminder-42", 0, []string{"outcome"}},
		{"embermq tx ls", 0, []string{"half-1", "bank"}},
		{"embermq stats", 0, []string{"log end", "closed cleanly"}},
		{"embermq check", 0, []string{"sound"}},
		{"embermq repair", 0, []string{"damage found", "0"}},
		{"embermq dump data/commitlog/00000000000000000000", 0, []string{"order 42 was shipped", "zeros to the end"}},
		{"embermq dump data/ember/queues", 0, []string{"orders/1"}},
		{"embermq dump data/checkpoint", 0, []string{"log synced"}},
		{"embermq dump data/lock", 2, []string{"no file of a store"}},
		{"embermq restore backup --dir data", 1, []string{"exists"}},
	} {
		out, code := sh(t, c.line)
		require.Equal(t, c.code, code, "%s\n%s", c.line, out)
		for _, want := range c.says {
			require.Contains(t, out, want, c.line)
		}
	}
}

// TestDamage breaks a record: check says where, repair mends, and dump shows both.
func TestDamage(t *testing.T) {
	sample(t)
	name := filepath.Join("data", "commitlog", "00000000000000000000")
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	at := bytes.Index(b, []byte("order 42 was shipped"))
	b[at] ^= 1
	require.NoError(t, os.WriteFile(name, b, 0o600))
	out, code := sh(t, "embermq check")
	require.Equal(t, 1, code, out)
	require.Contains(t, out, "00000000000000000000")
	out, code = sh(t, "embermq dump "+name)
	require.Zero(t, code, out)
	require.Contains(t, out, "damaged record")
	out, code = sh(t, "embermq repair --json")
	require.Zero(t, code, out)
	require.Contains(t, out, "repair-1")
	out, code = sh(t, "embermq check")
	require.Zero(t, code, out)
	out, code = sh(t, "embermq dump "+name)
	require.Zero(t, code, out)
	require.Contains(t, out, "filler")
}

// TestBesideItsOwner uses the directory while this process has it open.
func TestBesideItsOwner(t *testing.T) {
	sample(t)
	s, err := store.Open("data")
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	for line, want := range map[string]string{
		"embermq peek orders":           "order 42 was paid",
		"embermq topic ls":              "orders",
		"embermq query orders --key 42": "shipped",
		"embermq check":                 "sound",
	} {
		out, code := sh(t, line)
		require.Zero(t, code, "%s\n%s", line, out)
		require.Contains(t, out, want)
	}
	for line, want := range map[string]string{
		"embermq timer ls":             "timers are known only to the process",
		"embermq topic delete scratch": "needs the directory for itself",
		"embermq backup elsewhere":     "needs the directory for itself",
		"embermq repair":               "needs the directory for itself",
	} {
		out, code := sh(t, line)
		require.Equal(t, 1, code, "%s\n%s", line, out)
		require.Contains(t, out, want, line)
	}
}
