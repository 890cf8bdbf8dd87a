package rocketmq

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// childVariable names the file with the plans that a child process is to carry
// out before it kills itself.
const childVariable = "EMBERMQ_INTEROP_CHILD"

// childMain makes stores, writes down what they hold, and kills its own process
// while all of them are open. It reports whether this process is a child.
func childMain() bool {
	file := os.Getenv(childVariable)
	if file == "" {
		return false
	}
	err := func() error {
		var plans []plan
		if err := loadJSON(file, &plans); err != nil {
			return err
		}
		for _, p := range plans {
			w := newWriter(p)
			if err := w.write(); err != nil {
				return fmt.Errorf("%v: %w", p, err)
			}
			if err := saveJSON(p.modelFile(), w.model); err != nil {
				return err
			}
		}
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			return err
		}
		return self.Kill()
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	select {} // until the kill arrives
}

func (p plan) modelFile() string { return p.Dir + ".json" }

// writeOurs makes the stores. Those that are to be killed are made by a child
// process that is.
func writeOurs(t *testing.T, plans []plan) []*model {
	t.Helper()
	models := make([]*model, len(plans))
	var doomed []plan
	for i, p := range plans {
		if p.Features.has(killed | tailCut) {
			doomed = append(doomed, p)
			continue
		}
		w := newWriter(p)
		require.NoError(t, w.write(), "%v", p)
		require.NoError(t, w.s.Close(), "%v", p)
		models[i] = &w.model
	}
	runChild(t, doomed)
	for i, p := range plans {
		if models[i] != nil {
			continue
		}
		w := newWriter(p)
		require.NoError(t, loadJSON(p.modelFile(), &w.model))
		if p.Features.has(tailCut) {
			require.NoError(t, w.tear(), "%v", p)
		}
		models[i] = &w.model
	}
	return models
}

func runChild(t *testing.T, plans []plan) {
	t.Helper()
	if len(plans) == 0 {
		return
	}
	file := filepath.Join(t.TempDir(), "plans.json")
	require.NoError(t, saveJSON(file, plans))
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childVariable+"="+file)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.True(t, errors.As(err, &exit) && exit.ExitCode() == -1, "the child was not killed: %v\n%s", err, out)
}
