package measure

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

// Scale says how much work a run does.
type Scale uint8

// The scales of a run.
const (
	Quick    Scale = iota // under a minute
	Standard              // a few minutes
	Full                  // as long as it takes
)

// LostError says that a run was significantly worse than the one it was
// compared with.
type LostError struct{ Rows int }

func (e *LostError) Error() string { return fmt.Sprintf("%d rows lost more than allowed", e.Rows) }

type flags struct {
	quick, full, ratios, list bool
	only, out, dir, compare   string
	maxRegress                float64
	reps                      int
	turn                      time.Duration
}

// Command is a benchmark program: it runs the experiments that plan returns,
// shows progress, prints a table, and writes results.json, machine.json,
// results.md and plots
// into the folder out.
func Command(name, short, out string, plan func(Scale) ([]Experiment, error)) *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs, SilenceUsage: true,
		RunE: func(c *cobra.Command, _ []string) error {
			return f.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), plan)
		},
	}
	fs := c.Flags()
	fs.BoolVar(&f.quick, "quick", false, "the most important rows, in a minute")
	fs.BoolVar(&f.full, "full", false, "also what takes long and much room")
	fs.BoolVar(&f.list, "list", false, "print the workloads and end")
	fs.StringVar(&f.only, "only", "", "run workloads whose name contains one of these `parts`, separated by commas")
	fs.StringVar(&f.out, "out", out, "the `folder` for results, tables and plots")
	fs.StringVar(&f.dir, "dir", "", "the `folder` whose file system is measured (default: that of --out)")
	fs.IntVar(&f.reps, "reps", 0, "rounds (default 5, quick 3)")
	fs.DurationVar(&f.turn, "turn", 0, "how long one turn works (default 250ms, quick 120ms)")
	fs.StringVar(&f.compare, "compare", "", "compare with an earlier results.json")
	fs.BoolVar(&f.ratios, "ratios", false, "compare ratios instead of figures: for results of another machine")
	fs.Float64Var(&f.maxRegress, "max-regress", 0.1, "the largest significant loss that --compare lets pass, as a share")
	return c
}

func (f *flags) run(ctx context.Context, out, progress io.Writer, plan func(Scale) ([]Experiment, error)) error {
	es, err := plan(f.scale())
	if err != nil {
		return err
	}
	if es = Matching(es, f.only); len(es) == 0 {
		return fmt.Errorf("no workload contains %q", f.only)
	}
	if f.list {
		for _, e := range es {
			for _, m := range e.Metrics {
				fmt.Fprintln(out, m.Workload)
			}
		}
		return nil
	}
	var old []Result
	if f.compare != "" { // before the work: a wrong name should not cost minutes
		if old, err = Load(f.compare); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return err
	}
	if f.dir == "" {
		f.dir = f.out
	}
	machine := ThisMachine(f.dir)
	fmt.Fprintln(out, machine)
	rs, err := f.measure(ctx, es, progress)
	if e := f.report(out, rs, machine); err == nil {
		err = e
	}
	if err != nil || old == nil {
		return err
	}
	lost, err := WriteChanges(out, Compare(old, rs, f.ratios), f.maxRegress)
	if err == nil && lost > 0 {
		err = &LostError{lost}
	}
	return err
}

func (f *flags) scale() Scale {
	switch {
	case f.quick:
		return Quick
	case f.full:
		return Full
	}
	return Standard
}

func (f *flags) measure(ctx context.Context, es []Experiment, progress io.Writer) ([]Result, error) {
	r := Runner{Reps: 5, For: 250 * time.Millisecond, Bytes: 256 << 20, Dir: f.dir}
	if f.quick {
		r.Reps, r.For, r.Bytes = 3, 120*time.Millisecond, 64<<20
	}
	if f.reps > 0 {
		r.Reps = f.reps
	}
	if f.turn > 0 {
		r.For = f.turn
	}
	var bar *progressbar.ProgressBar
	r.Progress = func(done, all int, what string) {
		if bar == nil {
			bar = progressbar.NewOptions(all, progressbar.OptionSetWriter(progress), progressbar.OptionShowCount(),
				progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(20))
		}
		bar.Describe(fmt.Sprintf("%-50s", what))
		_ = bar.Set(done)
	}
	rs, err := r.Run(ctx, es)
	if bar != nil {
		_ = bar.Finish()
	}
	return rs, err
}

func (f *flags) report(out io.Writer, rs []Result, machine Machine) error {
	if len(rs) == 0 {
		return nil
	}
	if err := WriteTable(out, rs); err != nil {
		return err
	}
	if err := Save(filepath.Join(f.out, "results.json"), rs); err != nil {
		return err
	}
	if err := machine.Save(filepath.Join(f.out, "machine.json")); err != nil {
		return err
	}
	md, err := os.Create(filepath.Join(f.out, "results.md"))
	if err != nil {
		return err
	}
	defer md.Close()
	if err := WriteMarkdown(md, rs); err != nil {
		return err
	}
	return WritePlots(f.out, rs)
}
