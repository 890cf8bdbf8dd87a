package rules

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	goBlock   = regexp.MustCompile("(?ms)^```go\n(.*?)^```")
	textBlock = regexp.MustCompile("(?ms)^```text\n(.*?)^```")
)

// elsewhere are the guides whose code another test runs, because it needs more
// than this module has.
var elsewhere = map[string]string{
	"docs/guide/transactions.md": "txn/sqltx/sqlitetest.TestGuide",
}

// TestDocumentCode builds and runs the Go code of README and guides. The blocks of
// a document, one after the other, are the body of one function; what it prints is
// the document's text blocks. One program holds them all, so that there is one build.
func TestDocumentCode(t *testing.T) {
	names := append(guides(t), "README.md")
	dir := t.TempDir()
	var files []string
	want := make(map[string]string)
	calls := ""
	for i, name := range names {
		if by, ok := elsewhere[name]; ok {
			require.NoError(t, (&evidence{root: root(t)}).find(by))
			continue
		}
		body, out := code(t, name)
		if body == "" {
			continue
		}
		file := filepath.Join(dir, fmt.Sprintf("doc%d.go", i))
		require.NoError(t, os.WriteFile(file, []byte(source(fmt.Sprintf("doc%d", i), body)), 0o600))
		files = append(files, file)
		want[name] = out
		calls += fmt.Sprintf("%q: doc%d,\n", name, i)
	}
	require.Contains(t, want, "README.md")
	file := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(file, []byte(mainOf+"var docs = map[string]func(context.Context) error{\n"+calls+"}\n"), 0o600))
	program := filepath.Join(dir, "docs.exe")
	build := exec.Command("go", append([]string{"build", "-o", program, file}, files...)...)
	build.Dir = root(t) // outside the module its packages would not be found
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for name, text := range want {
		t.Run(name, func(t *testing.T) {
			run := exec.Command(program, name)
			run.Dir = t.TempDir()
			out, err := run.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Equal(t, text, string(out))
		})
	}
}

// The README's first program is short enough to be read at a glance.
func TestFirstProgramIsShort(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root(t), "README.md"))
	require.NoError(t, err)
	require.LessOrEqual(t, strings.Count(goBlock.FindStringSubmatch(string(b))[1], "\n"), 20)
}

const mainOf = `package main

import (
	"context"
	"fmt"
	"os"
)

func main() {
	if err := docs[os.Args[1]](context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

`

// source is a file with one function; it imports what the body names.
func source(function, body string) string {
	var imports strings.Builder
	for _, p := range []string{"context", "errors", "fmt", "sync/atomic", "time",
		module + "/consumer", module + "/group", module + "/interop", module + "/message",
		module + "/producer", module + "/store", module + "/typed"} {
		name := p[strings.LastIndex(p, "/")+1:]
		if name == "context" || regexp.MustCompile(`\b`+name+`\.[A-Z]`).MatchString(body) {
			fmt.Fprintf(&imports, "\t%q\n", p)
		}
	}
	return "package main\n\nimport (\n" + imports.String() + ")\n\nfunc " + function + "(ctx context.Context) error {\n" + body + "return nil\n}\n"
}

// code returns a document's Go code and what it says that is printed.
func code(t *testing.T, name string) (body, out string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root(t), name))
	require.NoError(t, err)
	join := func(re *regexp.Regexp) (s string) {
		for _, m := range re.FindAllStringSubmatch(string(b), -1) {
			s += m[1]
		}
		return s
	}
	return join(goBlock), join(textBlock)
}

// guides are the names of the guides.
func guides(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(t), "docs", "guide", "*.md"))
	require.NoError(t, err)
	require.Greater(t, len(files), 5)
	for i, f := range files {
		files[i] = "docs/guide/" + filepath.Base(f)
	}
	slices.Sort(files)
	return files
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
