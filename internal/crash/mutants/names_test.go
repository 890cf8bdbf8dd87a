package mutants

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/plant"
)

// root is the repository's folder.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", ".."))
	require.NoError(t, err)
	_, err = os.Stat(filepath.Join(dir, "go.mod"))
	require.NoError(t, err)
	return dir
}

// testsOf lists the test functions and fuzz targets of a folder, whatever it is
// built for.
func testsOf(t *testing.T, folder string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(t), filepath.FromSlash(folder), "*_test.go"))
	require.NoError(t, err)
	for _, f := range files {
		file, err := parser.ParseFile(token.NewFileSet(), f, nil, parser.SkipObjectResolution)
		if err != nil {
			continue // it does not compile, which the compiler says better
		}
		for _, d := range file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && (strings.HasPrefix(fn.Name.Name, "Test") || strings.HasPrefix(fn.Name.Name, "Fuzz")) {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}

// planted lists all bugs of package plant.
func planted(t *testing.T) (bugs []plant.Bug) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root(t), "internal", "plant", "plant.go"), nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			s, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			if s != "" {
				bugs = append(bugs, plant.Bug(s))
			}
		}
		return true
	})
	return bugs
}

// TestTable demands that every planted bug has one row, and that the tests in the
// rows exist.
func TestTable(t *testing.T) {
	bugs := planted(t)
	require.GreaterOrEqual(t, len(bugs), 24)
	rows := map[plant.Bug]int{}
	for _, m := range table {
		rows[m.bug]++
		require.Contains(t, testsOf(t, m.folder), m.test, "%s of %s", m.test, m.folder)
	}
	for _, b := range bugs {
		require.Equal(t, 1, rows[b], "rows of %q", b)
	}
	require.Len(t, table, len(bugs))
}

// TestInvariants prints what the store promises, what checks it and which planted
// bug the check finds. It fails if a name in it does not exist, or if a check stands for
// two invariants with the same bug.
func TestInvariants(t *testing.T) {
	bugs := planted(t)
	taken := map[plant.Bug]string{}
	var out strings.Builder
	for i, v := range invariants {
		require.Equal(t, fmt.Sprintf("I%d", i+1), v.name)
		require.Contains(t, bugs, v.bug, v.name)
		require.Empty(t, taken[v.bug], "%s and another have the bug %q", v.name, v.bug)
		taken[v.bug] = v.name
		fmt.Fprintf(&out, "%-4s %s\n", v.name, v.says)
		for _, where := range append([]string{"store/" + v.test}, v.also...) {
			folder, test := filepath.ToSlash(filepath.Dir(where)), filepath.Base(where)
			require.Contains(t, testsOf(t, folder), test, "%s: %s", v.name, where)
			fmt.Fprintf(&out, "       %s\n", where)
		}
		fmt.Fprintf(&out, "       planted: %q\n", v.bug)
	}
	require.Len(t, invariants, 17)
	t.Logf("invariants, their tests, and a bug that each finds:\n%s", out.String())
	// The page for readers says the same.
	page, err := os.ReadFile(filepath.Join(root(t), "docs", "testing.md"))
	require.NoError(t, err)
	for _, v := range invariants {
		row := slices.IndexFunc(strings.Split(string(page), "\n"), func(line string) bool { return strings.HasPrefix(line, "| "+v.name+" |") })
		require.GreaterOrEqual(t, row, 0, "docs/testing.md has no row for %s", v.name)
		line := strings.Split(string(page), "\n")[row]
		require.Contains(t, line, v.test, "docs/testing.md, %s", v.name)
		require.Contains(t, line, string(v.bug), "docs/testing.md, %s", v.name)
	}
}
