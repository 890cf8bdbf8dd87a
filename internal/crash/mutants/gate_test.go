//go:build plant

package mutants

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var limit = flag.Duration("mutants.limit", 20*time.Second, "how long a test may take to find its planted bug")

// programs are those of all tests here.
var programs *builder

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programs = &builder{dir: dir, made: map[string]string{}}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// builder compiles the tests of each folder once, with the planted bugs in them.
type builder struct {
	dir  string
	mu   sync.Mutex
	made map[string]string
}

func (b *builder) build(t *testing.T, folder string) (program string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if p, ok := b.made[folder]; ok {
		return p
	}
	program = filepath.Join(b.dir, strings.ReplaceAll(folder, "/", "-")+".test")
	cmd := exec.Command("go", "test", "-c", "-tags", "plant", "-o", program, "./"+folder)
	cmd.Dir = root(t)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	b.made[folder] = program
	return program
}

// outcome is how a test with a planted bug has ended.
type outcome struct {
	found bool // it failed by itself
	late  bool
	took  time.Duration
	said  string // what it said, without the frame
}

func (b *builder) run(t *testing.T, m mutant) outcome {
	t.Helper()
	program := b.build(t, m.folder)
	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	args := append([]string{"-test.run", "^" + m.test + "$", "-test.count=1"}, strings.Fields(m.flags)...)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = filepath.Join(root(t), m.folder)
	cmd.Env = append(os.Environ(), "EMBERMQ_PLANT="+string(m.bug))
	began := time.Now()
	out, err := cmd.CombinedOutput()
	o := outcome{took: time.Since(began), late: ctx.Err() != nil, said: strings.Join(strings.Fields(string(out)), " ")}
	o.found = err != nil && !o.late && (strings.Contains(o.said, "--- FAIL: "+m.test) || strings.Contains(o.said, "panic: "))
	require.NotContains(t, o.said, "no tests to run")
	return o
}

// TestMutants demands that each planted bug is found in time by its test.
func TestMutants(t *testing.T) {
	lines := make([]string, len(table))
	t.Cleanup(func() { t.Logf("planted bugs, and who found them:\n%s", strings.Join(lines, "\n")) })
	for i, m := range table {
		t.Run(string(m.bug), func(t *testing.T) {
			t.Parallel() // most use one core
			o := programs.run(t, m)
			if !o.found {
				t.Errorf("%s of %s does not find it (%.1f s, in time: %t): %.600s", m.test, m.folder, o.took.Seconds(), !o.late, o.said)
			}
			lines[i] = fmt.Sprintf("%-52s %5.1f s  %s/%s", m.bug, o.took.Seconds(), m.folder, m.test)
		})
	}
}
