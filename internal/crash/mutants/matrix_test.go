//go:build plant

package mutants

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/plant"
)

// TestMutantMatrix runs the check of every invariant against the bug of every
// invariant, and against none. Each bug is found by the check of its invariant and by
// no other; without a bug all pass. It prints the matrix.
//
// The checks lie in one package, so one process runs all of them for one bug.
func TestMutantMatrix(t *testing.T) {
	program, dir := programs.build(t, "store"), filepath.Join(root(t), "store")
	columns := []plant.Bug{plant.None}
	for _, v := range invariants {
		columns = append(columns, v.bug)
	}
	found := make([][]string, len(columns)) // by column, the tests that failed
	var all sync.WaitGroup
	free := make(chan bool, 2) // most checks use one core
	for i, bug := range columns {
		all.Go(func() {
			free <- true
			defer func() { <-free }()
			found[i] = failures(t, program, dir, bug)
		})
	}
	all.Wait()
	t.Logf("which check finds which bug; a column is the bug of that invariant:\n%s", drawMatrix(found))
	require.Empty(t, found[0], "without a bug")
	for i, v := range invariants {
		require.Equal(t, []string{v.test}, found[i+1], "%s: who finds %q", v.name, v.bug)
	}
}

// failures runs the checks of all invariants with a bug and lists those that fail.
func failures(t *testing.T, program, dir string, bug plant.Bug) (failed []string) {
	var left []string
	for _, v := range invariants {
		left = append(left, v.test)
	}
	// A check that ends the whole process leaves the others to the next one.
	for len(left) > 0 {
		out := runChecks(program, dir, bug, left)
		left = slices.DeleteFunc(left, func(test string) bool {
			bad := strings.Contains(out, "--- FAIL: "+test+" ")
			if bad {
				failed = append(failed, test)
			}
			return bad || strings.Contains(out, "--- PASS: "+test+" ") || strings.Contains(out, "--- SKIP: "+test+" ")
		})
		if len(left) > 0 {
			i := slices.IndexFunc(left, func(test string) bool { return strings.Contains(out, "=== RUN   "+test+"\n") })
			if i < 0 {
				t.Errorf("with %q: %.600s", bug, out)
				return failed
			}
			failed = append(failed, left[i])
			left = slices.Delete(left, i, i+1)
		}
	}
	slices.Sort(failed)
	return failed
}

func runChecks(program, dir string, bug plant.Bug, tests []string) string {
	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-test.v", "-test.count=1", "-test.run", "^("+strings.Join(tests, "|")+")$")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "EMBERMQ_PLANT="+string(bug))
	out, _ := cmd.CombinedOutput() // what it says tells more than how it ended
	return string(out)
}

// drawMatrix draws rows of checks and columns of bugs.
func drawMatrix(found [][]string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%-34s none", "")
	for _, v := range invariants {
		fmt.Fprintf(&out, " %4s", v.name)
	}
	for _, v := range invariants {
		fmt.Fprintf(&out, "\n%-5s%-29s", v.name, v.test)
		for _, tests := range found {
			mark := "."
			if slices.Contains(tests, v.test) {
				mark = "X"
			}
			fmt.Fprintf(&out, " %4s", mark)
		}
	}
	return out.String()
}
