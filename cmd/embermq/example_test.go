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

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// isProgram, in the environment, makes the test binary the program: torture starts
// itself as another process.
const isProgram = "EMBERMQ_TEST_IS_PROGRAM"

// template is the folder that sample copies, once it is made.
var template string

func TestMain(m *testing.M) {
	if os.Getenv(isProgram) != "" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	code := m.Run()
	if template != "" {
		_ = os.RemoveAll(template)
	}
	os.Exit(code)
}

// sample gives a directory in which every example of the help makes sense: the
// store in "data", and a backup of it in "backup".
func sample(t testing.TB) {
	t.Helper()
	t.Setenv("EMBERMQ_DIR", "")
	t.Setenv(isProgram, "yes")
	if template == "" {
		dir, err := os.MkdirTemp("", "embermq-sample-*")
		require.NoError(t, err)
		t.Chdir(dir)
		makeSample(t)
		template = dir
	}
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(template)))
	t.Chdir(dir)
}

func makeSample(t testing.TB) {
	t.Helper()
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
	failures(t, s)
	_, err = s.Backup(ctx, "backup")
	require.NoError(t, err)
	require.NoError(t, s.Close())
}

// failures lets a member of group billing fail: the messages dead-1 and dead-2 are dead
// letters then, and again-1 waits for its retry.
func failures(t testing.TB, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	m, err := s.Groups().Join(ctx, group.Member{Group: "billing", Subscriptions: map[string]string{"orders": group.AllMessages}})
	require.NoError(t, err)
	q := message.Queue{Topic: "orders", ID: 2}
	var claim group.Claim
	for claim.Queue != q {
		change, err := m.Next(ctx)
		require.NoError(t, err)
		for _, c := range change.Given {
			if c.Queue == q {
				claim = c
			}
		}
	}
	for id, kind := range map[string]message.VerdictKind{"dead-1": message.DeadLetter, "dead-2": message.DeadLetter, "again-1": message.Retry} {
		r, err := s.Put(ctx, &message.Message{Topic: q.Topic, QueueID: q.ID, UniqueID: id, Body: []byte("bill " + id)})
		require.NoError(t, err)
		require.NoError(t, s.Settle(ctx, claim, message.Verdict{Queue: q, Offset: r.Offset, Kind: kind, After: time.Hour, Reason: "no such account"}))
	}
	m.Abandon(context.Canceled)
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
		if c.HasSubCommands() || c.Name() == "help" || c.Hidden {
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
	require.Greater(t, commands, 30)
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
		{"embermq group ls", 0, []string{"billing", "clustering"}},
		{"embermq group create billing", 1, []string{"exists"}},
		{"embermq group update nobody", 1, []string{"nobody", "not found"}},
		{"embermq group rm nobody", 1, []string{"nobody"}},
		{"embermq group members billing", 0, []string{"members", "0", "seen"}},
		{"embermq group members nobody", 1, []string{"not found"}},
		{"embermq group lag billing --json", 0, []string{`"queue":"orders/0"`, `"lag":3`}},
		{"embermq group lag nobody", 1, []string{"nobody"}},
		{"embermq group reset billing orders", 2, []string{"to"}},
		{"embermq group reset billing orders --to never", 2, []string{"never"}},
		{"embermq group reset billing nothing --to last", 1, []string{"nothing"}},
		{"embermq group clone nobody audit orders", 1, []string{"nobody"}},
		{"embermq dlq ls", 0, []string{"billing", "2"}},
		{"embermq dlq ls billing", 0, []string{"dead-1", "orders/2", "no such account"}},
		{"embermq dlq show billing dead-2", 0, []string{"bill dead-2", "property UNIQ_KEY"}},
		{"embermq dlq show billing dead-2 --json", 0, []string{`"body":"bill dead-2"`}},
		{"embermq dlq show billing dead-9", 1, []string{"dead-9", "not found"}},
		{"embermq dlq rm billing", 2, []string{"--all"}},
		{"embermq dlq rm billing dead-1 --all", 2, []string{"not both"}},
		{"embermq dlq rm billing dead-9", 1, []string{"not found"}},
		{"embermq dlq redrive billing --all --max 1", 0, []string{"sent", "1"}},
		{"embermq dlq redrive billing --all --to nowhere", 1, []string{"nowhere"}},
		{"embermq retry ls billing", 0, []string{"again-1", "orders/2 at", "bill again-1"}},
		{"embermq retry ls nobody", 1, []string{"nobody"}},
		{"embermq move billing orders orders", 1, []string{"itself"}},
		{"embermq move billing orders nothing", 1, []string{"nothing"}},
		{"embermq move billing orders scratch -n 2 --json", 0, []string{`{"moved":2}`}},
		{"embermq torture --for 1s", 2, []string{"not empty", "--dir"}},
		{"embermq torture --for 0s --dir new", 2, []string{"no time"}},
		{"embermq bench --for 0s", 2, []string{"--for"}},
		{"embermq bench --for 5ms --json", 0, []string{`"what":"drain"`}},
		{"embermq export-rocketmq", 2, []string{"--in-place"}},
		{"embermq export-rocketmq copy", 0, []string{"storePathRootDir=copy", "timerWheelEnable=true"}},
		{"embermq import-rocketmq --dir nowhere", 2, []string{"no store"}},
		{"embermq completion bash", 0, []string{"__start_embermq"}},
		{"embermq stats", 0, []string{"log end", "closed cleanly"}},
		{"embermq check", 0, []string{"sound"}},
		{"embermq repair", 0, []string{"damage found", "0"}},
		{"embermq dump data/commitlog/00000000000000000000", 0, []string{"order 42 was shipped", "zeros to the end"}},
		{"embermq dump data/ember/queues", 0, []string{"orders/1"}},
		{"embermq dump data/ember/index", 0, []string{"POSITIONS", "true"}},
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
		"embermq group ls":             "groups are known only to the process",
		"embermq group lag billing":    "offsets are known only to the process",
		"embermq group members g":      "members are known only to the process",
		"embermq dlq ls billing":       "dead letters are known only to the process",
		"embermq dlq rm billing --all": "needs the directory for itself",
		"embermq retry ls billing":     "retries are known only to the process",
		"embermq move billing a b":     "needs the directory for itself",
		"embermq topic delete scratch": "needs the directory for itself",
		"embermq backup elsewhere":     "needs the directory for itself",
		"embermq export-rocketmq x":    "needs the directory for itself",
		"embermq import-rocketmq":      "needs the directory for itself",
		"embermq repair":               "needs the directory for itself",
	} {
		out, code := sh(t, line)
		require.Equal(t, 1, code, "%s\n%s", line, out)
		require.Contains(t, out, want, line)
	}
}
