package metrics_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/group"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/metrics"
	"github.com/embermq/embermq/progress"
	"github.com/embermq/embermq/store"
)

func open(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// script puts ten messages into one queue; billing has settled four of them, one by
// a retry and one by a dead letter. One message and one half wait.
func script(t testing.TB, s *store.Store) {
	t.Helper()
	ctx := t.Context()
	q := message.Queue{Topic: "orders"}
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: q.Topic, WriteQueues: 1, ReadQueues: 1}))
	for i := range 10 {
		_, err := s.Put(ctx, &message.Message{Topic: q.Topic, Keys: []string{"k"}, Body: []byte{byte(i)}})
		require.NoError(t, err)
	}
	m, err := s.Groups().Join(ctx, group.Member{Group: "billing", Subscriptions: map[string]string{q.Topic: group.AllMessages}})
	require.NoError(t, err)
	change, err := m.Next(ctx)
	require.NoError(t, err)
	require.Len(t, change.Given, 1)
	for offset, kind := range []message.VerdictKind{message.Done, message.Retry, message.DeadLetter, message.Done} {
		require.NoError(t, s.Settle(ctx, change.Given[0], message.Verdict{Queue: q, Offset: int64(offset), Kind: kind, After: time.Hour}))
	}
	_, err = s.Put(ctx, &message.Message{Topic: q.Topic, Delay: time.Hour})
	require.NoError(t, err)
	_, id, err := s.Halves().Prepare(ctx, &message.Message{Topic: q.Topic}, "bank", message.HalfOptions{})
	require.NoError(t, err)
	_, err = s.Halves().Rollback(ctx, id)
	require.NoError(t, err)
	_, _, err = s.Halves().Prepare(ctx, &message.Message{Topic: q.Topic}, "bank", message.HalfOptions{})
	require.NoError(t, err)
	require.NoError(t, s.Progress().CreateGroup(ctx, progress.Group{Name: "crowd", Broadcast: true}))
}

func TestScript(t *testing.T) {
	s := open(t, t.TempDir())
	script(t, s)
	c := metrics.New(s, metrics.WithName("main"), metrics.WithQueues(1))
	for name, want := range map[string][]string{
		"log_segments":           {`{store="main"} 1`},
		"log_poisoned":           {`{store="main"} 0`},
		"retries_total":          {`{store="main"} 1`},
		"dead_letters_total":     {`{store="main"} 1`},
		"timers":                 {`{store="main"} 2`},
		"halves":                 {`{store="main"} 1`},
		"halves_ended_total":     {`{store="main",verdict="committed"} 0`, `{store="main",verdict="given_up"} 0`, `{store="main",verdict="rolled_back"} 1`},
		"group_lag_records":      {`{group="billing",store="main",topic="%RETRY%billing"} 0`, `{group="billing",store="main",topic="orders"} 6`},
		"group_retries_waiting":  {`{group="billing",store="main"} 1`, `{group="crowd",store="main"} 0`},
		"group_dead_letters":     {`{group="billing",store="main"} 1`, `{group="crowd",store="main"} 0`},
		"group_members":          {`{group="billing",store="main"} 1`, `{group="crowd",store="main"} 0`},
		"group_stale":            {`{group="billing",store="main"} 0`, `{group="crowd",store="main"} 0`},
		"queue_end_offset":       {`{queue="0",store="main",topic="%DLQ%billing"} 1`},
		"recovery_clean":         {`{store="main"} 0`},
		"recovery_rebuilt_views": {`{store="main"} 0`},
		"background_failed":      {`{store="main"} 0`},
		"collect_errors":         {`{store="main"} 0`},
	} {
		require.Equal(t, want, series(t, c, "embermq_"+name), name)
	}
	st := s.Stats()
	require.Equal(t, []string{fmt.Sprintf(`{store="main"} %d`, st.Puts)}, series(t, c, "embermq_records_put_total"))
	require.Contains(t, series(t, c, "embermq_log_sync_duration_seconds"), fmt.Sprintf(`_count{store="main"} %d`, st.Log.Syncs))
	require.Contains(t, series(t, c, "embermq_log_sync_duration_seconds"), fmt.Sprintf(`_bucket{store="main",le="+Inf"} %d`, st.Log.Syncs))
	require.Len(t, series(t, c, "embermq_group_oldest_age_seconds"), 2)
}

// TestConventions has Prometheus' own linter look at every name, and compares doc.go
// with what there is.
func TestConventions(t *testing.T) {
	s := open(t, t.TempDir())
	script(t, s)
	c := metrics.New(s, metrics.WithQueues(2))
	problems, err := testutil.CollectAndLint(c)
	require.NoError(t, err)
	require.Empty(t, problems)

	r := prometheus.NewPedanticRegistry()
	require.NoError(t, r.Register(c))
	families, err := r.Gather()
	require.NoError(t, err)
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	b, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	var listed []string
	for _, m := range regexp.MustCompile(`(?m)^//\t(embermq_[a-z_]+)`).FindAllStringSubmatch(string(b), -1) {
		listed = append(listed, m[1])
	}
	slices.Sort(listed)
	require.Equal(t, names, listed, "doc.go lists every metric")
}

// TestManyQueues bounds the series of a store with more queues than Prometheus
// should be given.
func TestManyQueues(t *testing.T) {
	s := open(t, t.TempDir())
	const topics, queues = 11, 1000
	for i := range topics {
		require.NoError(t, s.CreateTopic(t.Context(), store.Topic{Name: fmt.Sprint("t", i), WriteQueues: queues, ReadQueues: queues}))
	}
	few := testutil.CollectAndCount(metrics.New(s))
	require.Less(t, few, 100)
	require.Equal(t, few+2*metrics.MaxQueues+1, testutil.CollectAndCount(metrics.New(s, metrics.WithQueues(1_000_000))))
	require.Equal(t, []string{" 1000"}, series(t, metrics.New(s, metrics.WithQueues(metrics.MaxQueues)), "embermq_queue_series_left_out"))
}

// TestReadOnly leaves out what belongs to the process that writes; a closed store has
// nothing to say.
func TestReadOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, err := store.Open(dir)
	require.NoError(t, err)
	script(t, s)
	c := metrics.New(s)
	require.NoError(t, s.Close())
	require.Zero(t, testutil.CollectAndCount(c))

	s, err = store.OpenReadOnly(dir)
	require.NoError(t, err)
	c = metrics.New(s)
	require.Empty(t, series(t, c, "embermq_group_lag_records"))
	require.Empty(t, series(t, c, "embermq_timers"))
	require.Equal(t, []string{" 1"}, series(t, c, "embermq_recovery_clean"))
	require.NoError(t, s.Close())
}

// series are the lines of one metric, without its name.
func series(t testing.TB, c prometheus.Collector, name string) (lines []string) {
	t.Helper()
	b, err := testutil.CollectAndFormat(c, expfmt.TypeTextPlain, name)
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), name); ok {
			lines = append(lines, rest)
		}
	}
	return lines
}

func Example() {
	dir, err := os.MkdirTemp("", "embermq")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	if _, err := s.Put(context.Background(), &message.Message{Topic: "orders", Body: []byte("hello")}); err != nil {
		fmt.Println(err)
		return
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.New(s))
	families, err := registry.Gather() // promhttp.HandlerFor(registry, …) does it for Prometheus
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range families {
		if f.GetName() == "embermq_records_put_total" {
			fmt.Println(f.GetName(), f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	// Output: embermq_records_put_total 1
}
