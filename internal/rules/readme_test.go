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

var (
	fence  = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```")
	goTest = regexp.MustCompile(`go test (?:-\S+ )*\./(\S+)[^` + "`\n" + `]* -run '?([^' ` + "`" + `]+)`)
	inTest = regexp.MustCompile(`(?m)^func (\w+)\(`)
)

// TestEveryBlockIsExecuted: README and guides have no blocks but of Go, of what Go
// prints, and of commands. Commands of embermq are run by the tests of cmd/embermq, the
// others by .ci/run.
func TestEveryBlockIsExecuted(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root(t), ".ci", "run"))
	require.NoError(t, err)
	ci := string(b)
	require.Contains(t, ci, "\nstep \"examples\" examples\n")
	blocks := 0
	for _, name := range append(guides(t), "README.md", "docs/operate.md") {
		b, err := os.ReadFile(filepath.Join(root(t), name))
		require.NoError(t, err)
		for _, f := range fence.FindAllStringSubmatch(string(b), -1) {
			blocks++
			require.Contains(t, []string{"go", "text", "sh"}, f[1], "%s: a block that nothing executes:\n%s", name, f[2])
			for line := range strings.Lines(f[2]) {
				line, _, _ = strings.Cut(strings.TrimSpace(line), "  ")
				program, isExample := strings.CutPrefix(line, "go run ./examples/")
				switch {
				case f[1] != "sh" || strings.HasPrefix(line, "embermq "):
				case isExample:
					require.FileExists(t, filepath.Join(root(t), "examples", program, "main.go"), "%s: %s", name, line)
				default:
					command, args, _ := strings.Cut(line, " ./")
					require.Regexp(t, `(?m)" `+command+`( -\S+)* \./`+regexp.QuoteMeta(args)+`$`, ci, "%s: %s", name, line)
				}
			}
		}
	}
	require.Greater(t, blocks, 30)
}

// TestNamedCommands looks for the tests that documents run by a pattern.
func TestNamedCommands(t *testing.T) {
	found := 0
	for _, name := range repositoryFiles(t) {
		if filepath.Ext(name) != ".md" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root(t), name))
		if os.IsNotExist(err) {
			continue
		}
		require.NoError(t, err)
		for _, m := range goTest.FindAllStringSubmatch(string(b), -1) {
			if m[2] == "^$" {
				continue // benchmarks alone
			}
			found++
			pattern, _, _ := strings.Cut(m[2], "/")
			require.True(t, anyTest(t, m[1], regexp.MustCompile(pattern)), "%s: %s finds no test", name, m[0])
		}
	}
	require.Greater(t, found, 5)
}

// anyTest tells whether a folder has a test that the pattern chooses.
func anyTest(t *testing.T, folder string, pattern *regexp.Regexp) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(t), folder, "*_test.go"))
	require.NoError(t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		for _, m := range inTest.FindAllStringSubmatch(string(b), -1) {
			if strings.HasPrefix(m[1], "Test") && pattern.MatchString(m[1]) {
				return true
			}
		}
	}
	return false
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
