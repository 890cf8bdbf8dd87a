package measure

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/embermq/embermq/internal/fs"
)

// Experiment is one piece of work that several subjects do in turn.
type Experiment struct {
	Metrics  []Metric
	Subjects []Subject
	// Setup, if any, makes what all turns share, in an empty folder, and returns
	// how to end it.
	Setup func(dir string) (end func() error, err error)
}

// Metric names one figure of a turn, as in "put/1KiB/64p/ondisk".
type Metric struct{ Workload, Unit string }

// Subject is who does the work.
type Subject struct {
	Name string
	// RatioTo is the subject that this one is compared with; empty for none.
	RatioTo string
	// Run does the work once and returns a figure for each metric of the
	// experiment; NaN means that the subject has none.
	Run func(t Turn) ([]float64, error)
}

// Turn is what a subject gets for one turn.
type Turn struct {
	// Dir is an empty folder that goes when the turn ends.
	Dir string
	// For is how long it should work.
	For time.Duration
	// Bytes is how many it may write at most.
	Bytes int64
}

// Runner runs experiments.
type Runner struct {
	Reps  int           // rounds
	For   time.Duration // of a turn
	Bytes int64         // of a turn, and how much memory is warmed before it
	Dir   string        // where turns have their folders
	// Progress, if any, is told before each turn.
	Progress func(done, all int, what string)
}

// Matching returns the experiments with a workload that contains one of the
// comma-separated parts of only; all for an empty one.
func Matching(es []Experiment, only string) []Experiment {
	return slices.DeleteFunc(slices.Clone(es), func(e Experiment) bool {
		return !slices.ContainsFunc(e.Metrics, func(m Metric) bool { return matches(m.Workload, only) })
	})
}

func matches(workload, only string) bool {
	for part := range strings.SplitSeq(only, ",") {
		if strings.Contains(workload, part) {
			return true
		}
	}
	return false
}

// Run runs the experiments one after the other and returns a result for each
// subject and metric. It ends at the first error, or when ctx is done, with the
// results of the experiments that were finished.
func (r *Runner) Run(ctx context.Context, es []Experiment) ([]Result, error) {
	all, done := 0, 0
	for _, e := range es {
		all += len(e.Subjects) * r.Reps
	}
	var rs []Result
	for _, e := range es {
		one, err := r.experiment(ctx, e, func(what string) {
			if r.Progress != nil {
				r.Progress(done, all, what)
			}
			done++
		})
		if err != nil {
			return rs, err
		}
		rs = append(rs, one...)
	}
	return rs, nil
}

func (r *Runner) experiment(ctx context.Context, e Experiment, next func(what string)) (rs []Result, err error) {
	if e.Setup != nil {
		dir, err := os.MkdirTemp(r.Dir, "shared")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		end, err := e.Setup(dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Metrics[0].Workload, err)
		}
		defer func() {
			if e := end(); err == nil {
				err = e
			}
		}()
	}
	figures := make([][][]float64, len(e.Subjects)) // by subject and metric
	for i := range figures {
		figures[i] = make([][]float64, len(e.Metrics))
	}
	for rep := range r.Reps {
		for i := range e.Subjects {
			if rep%2 == 1 {
				i = len(e.Subjects) - 1 - i // nobody is always the first
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			next(e.Metrics[0].Workload + " " + e.Subjects[i].Name)
			vs, err := r.turn(e.Subjects[i])
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", e.Metrics[0].Workload, e.Subjects[i].Name, err)
			}
			for m, v := range vs {
				if !math.IsNaN(v) {
					figures[i][m] = append(figures[i][m], round(v))
				}
			}
		}
	}
	for m, metric := range e.Metrics {
		for i, s := range e.Subjects {
			if len(figures[i][m]) > 0 {
				rs = append(rs, Result{Workload: metric.Workload, Subject: s.Name, Unit: metric.Unit, Reps: figures[i][m], RatioTo: s.RatioTo})
			}
		}
	}
	return finish(rs), nil
}

func (r *Runner) turn(s Subject) (vs []float64, err error) {
	dir, err := os.MkdirTemp(r.Dir, "turn")
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := os.RemoveAll(dir); err == nil {
			err = e
		}
	}()
	if err := calm(dir, r.Bytes); err != nil {
		return nil, err
	}
	return s.Run(Turn{Dir: dir, For: r.For, Bytes: r.Bytes})
}

// calm gives every turn the same start. The file system has nothing left to write
// of the turn before. And as much memory as the turn will need for files has been
// used and given back: in a virtual machine memory that was never touched costs
// several times what the write itself does, and who gets it would be chance.
func calm(dir string, bytes int64) error {
	name := filepath.Join(dir, "warm")
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, zeros{}, bytes)
	if e := f.Close(); err == nil {
		err = e
	}
	if e := os.Remove(name); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	root, err := fs.OS(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	_ = root.SyncFS() // where it cannot, the turns are a little less alike
	runtime.GC()
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
