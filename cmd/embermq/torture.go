package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/embermq/embermq/store"
)

func (a *app) torture() *cobra.Command {
	var length time.Duration
	c := &cobra.Command{
		Use: "torture", GroupID: "files", Args: cobra.NoArgs,
		Short: "Kill a busy process again and again on this disk, and look for anything lost",
		Long: `Kill a busy process again and again on this disk, and look for anything lost. The process
puts messages and batches, some on disk and some in the cache, sets timers and commits
offsets. After each kill the store is opened and checked, and compared with what was
acknowledged. The directory must be missing or empty; it stays there, some hundred
megabytes large.

A kill is no power cut: it shows that the store recovers, and not that the disk keeps what
it has confirmed. The exit code is 1 when something was lost or wrong.`,
		Example: `  embermq torture --dir trial --for 300ms`,
		RunE: func(c *cobra.Command, _ []string) error {
			if length <= 0 {
				return badUsage("--for %v is no time", length)
			}
			if names, err := os.ReadDir(a.dir); err == nil && len(names) > 0 {
				return badUsage("%q is not empty: name a directory by --dir that torture may fill", a.dir)
			}
			return a.tortured(c.Context(), length)
		},
	}
	c.Flags().DurationVar(&length, "for", 10*time.Minute, "how long")
	return c
}

func (a *app) tortured(ctx context.Context, length time.Duration) error {
	j, err := newJudge(ctx, a.dir)
	if err != nil {
		return err
	}
	bar := progressbar.DefaultSilent(int64(length))
	if isTerminal(a.errs) {
		bar = progressbar.NewOptions64(int64(length), progressbar.OptionSetDescription("killing"), progressbar.OptionSetWriter(a.errs),
			progressbar.OptionClearOnFinish())
	}
	begun := time.Now()
	for err == nil && ctx.Err() == nil && (time.Since(begun) < length || j.kills == 0) {
		if err = a.kill(ctx, j); err == nil {
			err = j.look(context.WithoutCancel(ctx))
		}
		_ = bar.Set64(int64(min(time.Since(begun), length)))
	}
	if err == nil {
		err = j.end(context.WithoutCancel(ctx))
	}
	_ = bar.Finish()
	return a.verdict(j, time.Since(begun), err)
}

// verdict prints the report.
func (a *app) verdict(j *judge, took time.Duration, err error) error {
	var v *violation
	if err != nil && !errors.As(err, &v) {
		return err
	}
	found := "nothing lost, nothing wrong"
	if v != nil {
		found = a.bad(v.Error())
	}
	var acked int64
	for _, n := range j.acked {
		acked += n
	}
	err = a.one(row{{"result", found}, {"took", took.Round(time.Millisecond)}, {"kills", j.kills}, {"messages acknowledged", acked},
		{"messages read again", j.read}, {"timers acknowledged", j.timers}, {"timers delivered", len(j.delivered)},
		{"commits on disk", j.commits}, {"records replayed", j.replayed}, {"torn bytes cut", j.cut}, {"slowest opening", j.slowest}, {"directory", a.dir}})
	if err == nil && v != nil {
		return errDamage
	}
	return err
}

// kill starts a worker, notes what it acknowledges, and kills it at a random moment;
// some die while they open the store.
func (a *app) kill(ctx context.Context, j *judge) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, exe, tortureWorker, "--dir", a.dir)
	var said strings.Builder
	cmd.Stderr = &said
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	after := time.Duration(rand.Int64N(int64(1500 * time.Millisecond)))
	if rand.IntN(6) == 0 {
		after /= 50
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	lines := bufio.NewReader(pipe)
	for err == nil {
		var line string
		if line, err = lines.ReadString('\n'); err == nil {
			if jerr := j.note(line); jerr != nil {
				_ = cmd.Process.Kill()
				return errors.Join(jerr, ignoreExit(cmd.Wait()))
			}
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	j.kills++
	if err := cmd.Wait(); err != nil && cmd.ProcessState.Exited() {
		return &violation{fmt.Sprintf("the process ended by itself: %v: %s", err, strings.TrimSpace(said.String()))}
	}
	return nil
}

// ignoreExit leaves out that a process was killed.
func ignoreExit(err error) error {
	if _, ok := err.(*exec.ExitError); ok {
		return nil
	}
	return err
}

// violation is something that must not happen.
type violation struct{ what string }

func (v *violation) Error() string { return v.what }

func violated(format string, args ...any) error { return &violation{fmt.Sprintf(format, args...)} }

// opened makes an error of Open a violation: a kill leaves a store that opens.
func opened(s *store.Store, err error) (*store.Store, error) {
	if err != nil {
		return nil, violated("the store does not open: %v", err)
	}
	return s, nil
}
