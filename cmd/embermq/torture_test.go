package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func TestTorture(t *testing.T) {
	sample(t)
	out, code := sh(t, "embermq torture --dir trial --for 1s --json")
	require.Zero(t, code, out)
	require.Contains(t, out, `"result":"nothing lost, nothing wrong"`)
	out, code = sh(t, "embermq check --dir trial")
	require.Zero(t, code, out)
}

// TestTortureFinds shows the judge what must not happen.
func TestTortureFinds(t *testing.T) {
	ctx := t.Context()
	put := func(t *testing.T, s *store.Store, body []byte) {
		t.Helper()
		_, err := s.Put(ctx, &message.Message{Topic: tortureTopic, Body: body})
		require.NoError(t, err)
	}
	for name, c := range map[string]struct {
		says string // what the process said before it was killed
		left func(t *testing.T, s *store.Store)
		want string
	}{
		"nothing":      {"", func(*testing.T, *store.Store) {}, ""},
		"sound":        {"put 0 1", func(t *testing.T, s *store.Store) { put(t, s, tortureBody(0, 0, 0, 1)) }, ""},
		"lost":         {"put 0 2", func(t *testing.T, s *store.Store) { put(t, s, tortureBody(0, 0, 0, 1)) }, "were acknowledged"},
		"another":      {"put 0 1", func(t *testing.T, s *store.Store) { put(t, s, tortureBody(0, 1, 1, 1)) }, "another message"},
		"half_a_batch": {"", func(t *testing.T, s *store.Store) { put(t, s, tortureBody(0, 0, 0, 2)) }, "inside the batch"},
		"lost_timer":   {"timer a", func(*testing.T, *store.Store) {}, "timer a is lost"},
		"lost_commit":  {"commit 0 1", func(t *testing.T, s *store.Store) { put(t, s, tortureBody(0, 0, 0, 1)) }, "committed offset"},
		"two_timers": {"", func(t *testing.T, s *store.Store) {
			for range 2 {
				_, err := s.Put(ctx, &message.Message{Topic: tortureLater, Body: []byte("a")})
				require.NoError(t, err)
			}
		}, "delivered twice"},
	} {
		t.Run(name, func(t *testing.T) {
			j, err := newJudge(ctx, t.TempDir())
			require.NoError(t, err)
			s, err := store.Open(j.dir, tortureOptions()...)
			require.NoError(t, err)
			c.left(t, s)
			require.NoError(t, s.Close())
			if c.says != "" {
				require.NoError(t, j.note(c.says))
			}
			if err = j.look(ctx); c.want == "" {
				require.NoError(t, err)
				require.NoError(t, j.end(ctx))
				return
			}
			var v *violation
			require.ErrorAs(t, err, &v)
			require.Contains(t, v.what, c.want)
		})
	}
	j := &judge{}
	require.ErrorContains(t, j.note("error producer 0: disk gone"), "disk gone")
	require.Error(t, j.note("put 99 1"))
}

// TestTailFollows prints what another owner of the directory puts, as it comes.
func TestTailFollows(t *testing.T) {
	sample(t)
	s, err := store.Open("data")
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, w := io.Pipe()
	code := make(chan int)
	go func() {
		code <- run(ctx, []string{"tail", "orders", "-f", "-n", "1", "--tags", "late || paid"}, os.Stdin, w, w)
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	until := func(want string) {
		t.Helper()
		for lines.Scan() {
			require.NotContains(t, lines.Text(), "not chosen")
			if strings.HasSuffix(lines.Text(), want) {
				return
			}
		}
		t.Fatalf("tail ended before %q: %v", want, lines.Err())
	}
	until("order 42 was paid")
	for _, body := range []string{"the first", "the second", "the third"} {
		_, err := s.Put(ctx, &message.Message{Topic: "orders", Tag: "early", Body: []byte("not chosen")})
		require.NoError(t, err)
		_, err = s.Put(ctx, &message.Message{Topic: "orders", Tag: "late", Body: []byte(body)})
		require.NoError(t, err)
		until(body)
	}
	stop()
	go func() { _, _ = io.Copy(io.Discard, r) }()
	require.Zero(t, <-code)
}
