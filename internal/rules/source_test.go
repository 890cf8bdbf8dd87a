package rules

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// words are what no file of the repository holds: places of one machine, and
// hosts that only a package manager should know. They are joined here, so that
// this file holds none of them either.
var words = []string{
	"/wo" + "rk/", "/tmp/em" + "ber", "../sha" + "red", "DESI" + "GN.md", "/ro" + "ot/", "/ho" + "me/",
	"proxy.gol" + "ang.org", "sum.gol" + "ang.org", "registry.npm" + "js.org", "repo.maven." + "apache.org",
	"deb.deb" + "ian.org", "pypi" + ".org", "files.python" + "hosted.org",
}

func TestForbiddenWords(t *testing.T) {
	files := repositoryFiles(t)
	require.Greater(t, len(files), 20)
	for _, name := range files {
		b, err := os.ReadFile(filepath.Join(root(t), name))
		if os.IsNotExist(err) {
			continue // deleted, not yet committed
		}
		require.NoError(t, err)
		for _, v := range findWords(b) {
			t.Errorf("%s:%s", name, v)
		}
	}
}

func findWords(b []byte) (found []string) {
	for _, w := range words {
		if i := bytes.Index(b, []byte(w)); i >= 0 {
			found = append(found, fmt.Sprintf("%d: mentions %q", 1+bytes.Count(b[:i], []byte("\n")), w))
		}
	}
	return found
}

func TestPlantedWords(t *testing.T) {
	require.Empty(t, findWords([]byte("a network\nof work and rest, golang.org/x/sys\n")))
	for _, w := range words {
		require.Equal(t, []string{fmt.Sprintf("2: mentions %q", w)}, findWords([]byte("one\ntwo "+w+"x\n")))
	}
}

// repositoryFiles lists what is committed or about to be.
func repositoryFiles(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	files := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	slices.Sort(files)
	return slices.Compact(files)
}

// programs are the folders that may do what a library must not: they are
// programs, or serve tests only.
var programs = []string{"bench", "cmd", "examples", "interop", "adapter"}

// never is what library code does not call: it would end, signal, listen or
// print in a process that is not its own.
var never = map[string][]string{
	"os":        {"Exit"},
	"log":       {"Print*", "Fatal*", "Panic*", "SetOutput", "SetFlags", "Default"},
	"log/slog":  {"SetDefault", "Default", "Debug*", "Info*", "Warn*", "Error*", "Log", "LogAttrs"},
	"os/signal": {"*"},
	"net":       {"Listen*"},
	"net/http":  {"ListenAndServe*", "Serve*", "Handle*"},
	"fmt":       {"Print*"},
	"syscall":   {"Exit", "Kill"},
}

// neverImported is what library code does not even import.
var neverImported = []string{"os/exec", "os/signal", "C", "plugin"}

// outside are the calls that reach the world around the process. Files go
// through internal/fs and time through a clock that is passed in, or the
// simulator would not see them.
var outside = map[string][]string{
	"time": {"Now", "Since", "Until", "Sleep", "After*", "NewTimer", "NewTicker", "Tick"},
	"os": {"Open*", "Create*", "Mkdir*", "Remove*", "Rename", "ReadFile", "WriteFile", "ReadDir", "Stat", "Lstat",
		"Truncate", "Link", "Symlink", "Chdir", "Chmod", "Getenv", "LookupEnv", "Setenv"},
}

// mayReach are the folders that are the way out. message is below the clock:
// its ids take a function for the time, and time.Now when there is none. plant
// asks the environment for a bug, in builds with its tag only.
var mayReach = []string{"internal/fs", "internal/clock", "internal/env", "message", "internal/plant"}

func TestLibraryCode(t *testing.T) {
	for _, p := range listAll(t) {
		folder := inModule(p.ImportPath)
		top, _, _ := strings.Cut(folder, "/")
		if slices.Contains(programs, top) {
			continue
		}
		files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		require.NoError(t, err)
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			src, err := os.ReadFile(name)
			require.NoError(t, err)
			for _, v := range checkLibrary(t, path.Join(folder, filepath.Base(name)), string(src)) {
				t.Error(v)
			}
		}
	}
}

// checkLibrary returns one line for each thing that library code must not do.
func checkLibrary(t *testing.T, name, src string) (bad []string) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, src, parser.SkipObjectResolution)
	require.NoError(t, err)
	report := func(n ast.Node, format string, args ...any) {
		bad = append(bad, fmt.Sprintf("%s: ", set.Position(n.Pos()))+fmt.Sprintf(format, args...))
	}
	for _, imp := range file.Imports {
		if p, _ := strconv.Unquote(imp.Path.Value); slices.Contains(neverImported, p) {
			report(imp, "a library does not import %s", p)
		}
	}
	names := importNames(file)
	reach := slices.Contains(mayReach, path.Dir(name))
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv == nil && n.Name.Name == "init" {
				report(n, "a library has no func init: importing it must do nothing")
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				break
			}
			p := names[x.Name]
			if matches(never[p], n.Sel.Name) {
				report(n, "a library does not call %s.%s", p, n.Sel.Name)
			}
			if !reach && matches(outside[p], n.Sel.Name) {
				report(n, "%s.%s goes around the file seam and the clock", p, n.Sel.Name)
			}
		}
		return true
	})
	return bad
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, _ := path.Match(pattern, name)
		return ok
	})
}

func TestPlantedLibraryCode(t *testing.T) {
	cases := []struct {
		name, imports, body string
		bad                 int
	}{
		{"clean", `"fmt"; "log/slog"; "time"`, `_ = fmt.Sprint(time.Second); slog.New(nil).Info("x")`, 0},
		{"exit", `"os"`, `os.Exit(1)`, 1},
		{"renamed", `system "os"`, `system.Exit(1)`, 1},
		{"log", `"log"`, `log.Printf("x")`, 1},
		{"log_logger", `"log"`, `var l *log.Logger; _ = l`, 0},
		{"slog_default", `"log/slog"`, `slog.Info("x")`, 1},
		{"signal", `"os/signal"`, `signal.Notify(nil)`, 2},
		{"listen", `"net"`, `net.Listen("tcp", "")`, 1},
		{"print", `"fmt"`, `fmt.Println()`, 1},
		{"exec", `"os/exec"`, `_ = exec.ErrDot`, 1},
		{"file", `"os"`, `os.Open("x")`, 1},
		{"file_as_value", `"os"`, `f := os.ReadFile; _ = f`, 1},
		{"clock", `"time"`, `time.Now()`, 1},
		{"sleep", `"time"`, `time.Sleep(1)`, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			src := "package p\nimport (" + c.imports + ")\nfunc f() { " + c.body + " }"
			require.Len(t, checkLibrary(t, "commitlog/x.go", src), c.bad)
		})
	}
	require.Len(t, checkLibrary(t, "store/x.go", "package p\nfunc init() {}"), 1)
	require.Empty(t, checkLibrary(t, "internal/fs/x.go", "package p\nimport \"os\"\nvar _ = os.Open"))
}

// TestPlantedBugsAreUsed finds planted bugs that nothing plants or no test
// looks for: each constant must stand in library code and in a test.
func TestPlantedBugsAreUsed(t *testing.T) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, filepath.Join(root(t), "internal", "plant", "plant.go"), nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	var bugs []string
	for _, d := range file.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
			for _, s := range g.Specs {
				bugs = append(bugs, s.(*ast.ValueSpec).Names[0].Name)
			}
		}
	}
	require.Contains(t, bugs, "None")
	code, tests := make(map[string]bool), make(map[string]bool)
	for _, name := range repositoryFiles(t) {
		src, err := os.ReadFile(filepath.Join(root(t), name))
		if filepath.Ext(name) != ".go" || os.IsNotExist(err) {
			continue
		}
		require.NoError(t, err)
		where := code
		if strings.HasSuffix(name, "_test.go") {
			where = tests
		}
		for _, b := range bugs {
			if regexp.MustCompile(`\bplant\.` + b + `\b`).Match(src) {
				where[b] = true
			}
		}
	}
	for _, b := range bugs {
		if b != "None" && !code[b] {
			t.Errorf("plant.%s is planted nowhere", b)
		}
		if b != "None" && !tests[b] {
			t.Errorf("no test looks for plant.%s", b)
		}
	}
}
