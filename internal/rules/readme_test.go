package rules

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var goBlock = regexp.MustCompile("(?ms)^```go\n(.*?)^```")

// TestReadme builds and runs the README's Go code: its blocks, one after the
// other, are the body of one function.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root(t), "README.md"))
	require.NoError(t, err)
	blocks := goBlock.FindAllStringSubmatch(string(b), -1)
	require.Len(t, blocks, 2)
	require.LessOrEqual(t, strings.Count(blocks[0][1], "\n"), 20, "the first program is short")
	out := runBody(t, blocks[0][1]+blocks[1][1])
	require.Equal(t, "0 paid order 42\nfollowed order 42\n", out)
}

// runBody runs statements in a folder of their own and returns what they print.
func runBody(t *testing.T, body string) string {
	t.Helper()
	const head = `package main

import (
	"context"
	"fmt"
	"os"

	"` + module + `/message"
	"` + module + `/store"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
`
	dir := t.TempDir()
	file, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "readme.exe")
	require.NoError(t, os.WriteFile(file, []byte(head+body+"return nil\n}\n"), 0o600))
	build := exec.Command("go", "build", "-o", program, file)
	build.Dir = root(t) // outside the module its packages would not be found
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	run := exec.Command(program)
	run.Dir = dir
	out, err = run.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

// TestLinks follows the links between the repository's documents.
func TestLinks(t *testing.T) {
	checked := 0
	for _, name := range repositoryFiles(t) {
		if filepath.Ext(name) != ".md" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root(t), name))
		if os.IsNotExist(err) {
			continue
		}
		require.NoError(t, err)
		for _, l := range link.FindAllStringSubmatch(string(b), -1) {
			checked++
			_, err := os.Stat(filepath.Join(root(t), filepath.Dir(name), l[1]))
			require.NoError(t, err, "%s links to %s", name, l[1])
		}
	}
	require.NotZero(t, checked)
}
