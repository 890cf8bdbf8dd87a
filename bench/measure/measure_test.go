package measure

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQuantiles(t *testing.T) {
	require.Equal(t, 3.0, Median([]float64{5, 1, 3}))
	require.Equal(t, 2.5, Median([]float64{4, 1, 3, 2}))
	low, high := Quartiles([]float64{5, 4, 3, 2, 1})
	require.Equal(t, []float64{2, 4}, []float64{low, high})
	require.Equal(t, 7.0, Quantile([]float64{7}, 0.9))
	require.True(t, math.IsNaN(Median(nil)))
}

// TestLower compares with probabilities that can be counted by hand, and with
// trying all ways to choose.
func TestLower(t *testing.T) {
	require.InDelta(t, 1.0/20, Lower([]float64{1, 2, 3}, []float64{4, 5, 6}), 1e-12)
	require.InDelta(t, 1.0, Lower([]float64{4, 5, 6}, []float64{1, 2, 3}), 1e-12)
	require.InDelta(t, 1.0/252, Lower([]float64{1, 2, 3, 4, 5}, []float64{6, 7, 8, 9, 10}), 1e-12)
	require.InDelta(t, 1.0, Lower([]float64{1, 1, 1}, []float64{1, 1, 1}), 1e-12)
	require.Equal(t, 1.0, Lower(nil, []float64{1}))
	for _, v := range [][]float64{{3, 1, 4, 1, 5, 9, 2}, {2, 7, 1, 8, 2, 8}, {1, 2, 2, 2, 3}} {
		for n := 1; n < len(v); n++ {
			require.InDelta(t, lowerByTrying(v, n), Lower(v[:n], v[n:]), 1e-12)
		}
	}
}

func lowerByTrying(v []float64, n int) float64 {
	ranks := doubleRanks(v)
	sum := func(mask int) (s, bits int) {
		for i, r := range ranks {
			if mask>>i&1 == 1 {
				s, bits = s+r, bits+1
			}
		}
		return s, bits
	}
	seen, _ := sum(1<<n - 1)
	low, all := 0, 0
	for mask := range 1 << len(v) {
		if s, bits := sum(mask); bits == n {
			all++
			if s <= seen {
				low++
			}
		}
	}
	return float64(low) / float64(all)
}

func results(ours, limit []float64) []Result {
	return finish([]Result{
		{Workload: "put/1KiB/1p/incache", Subject: "embermq", Unit: "msg/s", Reps: ours, RatioTo: "pwrite"},
		{Workload: "put/1KiB/1p/incache", Subject: "pwrite", Unit: "msg/s", Reps: limit},
	})
}

func TestRatioIsOfRounds(t *testing.T) {
	// The machine became slower from round to round; the ratio stayed.
	rs := results([]float64{80, 40, 20}, []float64{100, 50, 25})
	require.Equal(t, 40.0, rs[0].Median)
	require.Equal(t, 0.8, rs[0].Ratio)
	require.Zero(t, rs[1].Ratio)
}

// TestFile fixes the shape of results.json.
func TestFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "results.json")
	rs := results([]float64{1, 2, 3}, []float64{4, 4, 4})
	require.NoError(t, Save(name, rs))
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	var lines []map[string]any
	require.NoError(t, json.Unmarshal(b, &lines))
	require.Len(t, lines, 2)
	require.Equal(t, map[string]any{"workload": "put/1KiB/1p/incache", "subject": "embermq", "median": 2.0, "unit": "msg/s",
		"reps": []any{1.0, 2.0, 3.0}, "ratio_to": "pwrite", "ratio": 0.5}, lines[0])
	require.Equal(t, map[string]any{"workload": "put/1KiB/1p/incache", "subject": "pwrite", "median": 4.0, "unit": "msg/s",
		"reps": []any{4.0, 4.0, 4.0}, "ratio_to": "", "ratio": 0.0}, lines[1])
	back, err := Load(name)
	require.NoError(t, err)
	require.Equal(t, rs, back)
}

func TestCompare(t *testing.T) {
	limit := []float64{100, 100, 100, 100, 100}
	old := results([]float64{90, 91, 92, 93, 94}, limit)
	for _, c := range []struct {
		name   string
		ours   []float64
		ratios bool
		lost   int
	}{
		{"same", []float64{91, 90, 94, 92, 93}, false, 0},
		{"far_lower", []float64{45, 46, 47, 48, 49}, false, 1},
		{"far_lower_as_ratios", []float64{45, 46, 47, 48, 49}, true, 1},
		{"lower_within_what_is_allowed", []float64{85, 86, 87, 88, 89}, false, 0},
		{"lower_by_chance", []float64{10, 95, 96, 97, 20}, false, 0},
		{"higher", []float64{190, 191, 192, 193, 194}, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			lost, err := WriteChanges(&out, Compare(old, results(c.ours, limit), c.ratios), 0.1)
			require.NoError(t, err)
			require.Equal(t, c.lost, lost, out.String())
		})
	}
	t.Run("slower_machine", func(t *testing.T) {
		now := results([]float64{45, 45.5, 46, 46.5, 47}, []float64{50, 50, 50, 50, 50})
		lost, err := WriteChanges(&bytes.Buffer{}, Compare(old, now, true), 0.1)
		require.NoError(t, err)
		require.Zero(t, lost)
		lost, err = WriteChanges(&bytes.Buffer{}, Compare(old, now, false), 0.1)
		require.NoError(t, err)
		require.Equal(t, 2, lost)
	})
	t.Run("lower_is_better", func(t *testing.T) {
		was, is := []Result{{Workload: "w", Unit: "ms", Reps: []float64{10, 11, 12}}}, []Result{{Workload: "w", Unit: "ms", Reps: []float64{20, 21, 22}}}
		require.True(t, Compare(was, is, false)[0].Lost(0.5))
		require.False(t, Compare(is, was, false)[0].Lost(0.5))
	})
}

func TestRunnerTakesTurns(t *testing.T) {
	var order []string
	subject := func(name, to string, v float64) Subject {
		return Subject{Name: name, RatioTo: to, Run: func(t Turn) ([]float64, error) {
			order = append(order, name)
			entries, err := os.ReadDir(t.Dir)
			if len(entries) > 0 {
				err = errors.New("the folder is not empty")
			}
			return []float64{v, math.NaN()}, err
		}}
	}
	ended := false
	e := Experiment{
		Metrics:  []Metric{{"a", "msg/s"}, {"b", "ms"}},
		Subjects: []Subject{subject("x", "y", 1), subject("y", "", 2)},
		Setup:    func(string) (func() error, error) { return func() error { ended = true; return nil }, nil },
	}
	dir := t.TempDir()
	rs, err := (&Runner{Reps: 3, Dir: dir, Bytes: 1}).Run(context.Background(), []Experiment{e})
	require.NoError(t, err)
	require.Equal(t, []string{"x", "y", "y", "x", "x", "y"}, order)
	require.Equal(t, []Result{
		{Workload: "a", Subject: "x", Median: 1, Unit: "msg/s", Reps: []float64{1, 1, 1}, RatioTo: "y", Ratio: 0.5},
		{Workload: "a", Subject: "y", Median: 2, Unit: "msg/s", Reps: []float64{2, 2, 2}},
	}, rs)
	require.True(t, ended)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestMatching(t *testing.T) {
	es := []Experiment{{Metrics: []Metric{{"put/1KiB", ""}}}, {Metrics: []Metric{{"x", ""}, {"drain/1KiB", ""}}}}
	require.Len(t, Matching(es, ""), 2)
	require.Len(t, Matching(es, "drain"), 1)
	require.Len(t, Matching(es, "put/,drain"), 2)
	require.Empty(t, Matching(es, "none"))
}

func TestProduce(t *testing.T) {
	done := make([]int, 4)
	v, err := Produce(4, time.Minute, 40, func(i int) (func() error, error) {
		return func() error { done[i]++; return nil }, nil
	})
	require.NoError(t, err)
	require.Positive(t, v)
	require.Equal(t, []int{10, 10, 10, 10}, done)
	failure := errors.New("no")
	_, err = Produce(2, time.Minute, 1<<40, func(int) (func() error, error) { return func() error { return failure }, nil })
	require.ErrorIs(t, err, failure)
}

// TestPaceCountsFromDue: a call that takes long makes those behind it late, and
// that is in their figures.
func TestPaceCountsFromDue(t *testing.T) {
	var dues []time.Time
	n, err := Pace(1000, 10*time.Millisecond, func(due time.Time) error { dues = append(dues, due); return nil })
	require.NoError(t, err)
	require.Equal(t, 10, n)
	for i := range dues[1:] {
		require.Equal(t, time.Millisecond, dues[i+1].Sub(dues[i]))
	}
}

func TestLatencies(t *testing.T) {
	l, o := NewLatencies(), NewLatencies()
	for i := range 1000 {
		l.Add(time.Duration(i) * time.Microsecond)
	}
	o.Add(2 * time.Hour)
	l.Merge(o)
	require.Equal(t, int64(1001), l.Count())
	require.InEpsilon(t, 500, l.Micros(50), 0.01)
	require.InEpsilon(t, 60e6, l.Max(), 0.01)
}

func TestFormat(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", 0.012: "0.012", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234: "1234", 12345: "12.3 k", 999600: "1.00 M", 1234567: "1.23 M"} {
		require.Equal(t, want, Format(v))
	}
}

func TestPlots(t *testing.T) {
	dir := t.TempDir()
	rs := slices.Concat(results([]float64{1, 2, 3}, []float64{400, 400, 400}), []Result{{Workload: "reopen/kill/1M", Subject: "embermq", Unit: "ms", Reps: []float64{5}, Median: 5}})
	require.NoError(t, WritePlots(dir, rs))
	for _, name := range []string{"put-msg-per-s.png", "put-msg-per-s.svg", "reopen-ms.png", "reopen-ms.svg"} {
		require.FileExists(t, filepath.Join(dir, name))
	}
}
