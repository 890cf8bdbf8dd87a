package rules

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// rows are how many rules the contract has, and verdicts what it says of each:
// like RocketMQ, unlike it, not built, or of no meaning within one process.
const rows = 120

var verdicts = []string{"same", "differs", "not built", "void"}

// TestSemantics keeps docs/semantics.md honest: every row is there, says how EmberMQ
// compares, and names a test, an example or a program that exists.
func TestSemantics(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root(t), "docs", "semantics.md"))
	require.NoError(t, err)
	for _, v := range checkSemantics(root(t), string(b)) {
		t.Error(v)
	}
}

// TestNamedTests looks for the tests that other documents name.
func TestNamedTests(t *testing.T) {
	names := append(guides(t), "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
	e := &evidence{root: root(t)}
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(root(t), name))
		require.NoError(t, err)
		for _, n := range named.FindAllString(string(b), -1) {
			if err := e.find(strings.Trim(n, "`")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

var (
	row = regexp.MustCompile(`(?m)^\| (\d+) \|(.*)\|$`)
	// named is a test or example of a folder, or an example program.
	named = regexp.MustCompile("`(?:[a-z0-9/]+\\.(?:Test|Example|Fuzz)\\w*|examples/[a-z]+)`")
)

func checkSemantics(root, text string) (bad []string) {
	e := &evidence{root: root}
	next := 1
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		if m[1] != fmt.Sprint(next) {
			bad = append(bad, fmt.Sprintf("row %s stands where %d is due", m[1], next))
		}
		next++
		cells := strings.Split(m[2], " | ")
		if len(cells) != 4 {
			bad = append(bad, fmt.Sprintf("row %s has %d cells", m[1], len(cells)))
			continue
		}
		verdict, shown := strings.TrimSpace(cells[1]), cells[3]
		switch {
		case !slices.Contains(verdicts, verdict):
			bad = append(bad, fmt.Sprintf("row %s: %q is no verdict", m[1], verdict))
		case !named.MatchString(shown) && verdict != "void" && verdict != "not built":
			bad = append(bad, fmt.Sprintf("row %s names nothing that shows it", m[1]))
		}
	}
	if next != rows+1 {
		bad = append(bad, fmt.Sprintf("%d rows of %d", next-1, rows))
	}
	for _, n := range named.FindAllString(text, -1) {
		if err := e.find(strings.Trim(n, "`")); err != nil {
			bad = append(bad, err.Error())
		}
	}
	return bad
}

// evidence finds tests by name; it reads each folder once.
type evidence struct {
	root  string
	tests map[string]string // of a folder: the text of its tests
}

// find looks for "folder.TestName", "folder.ExampleName" or "examples/program".
func (e *evidence) find(name string) error {
	folder, function, ok := strings.Cut(name, ".")
	if !ok {
		if _, err := os.Stat(filepath.Join(e.root, name, "main.go")); err != nil {
			return fmt.Errorf("%s is no program", name)
		}
		return nil
	}
	text, ok := e.tests[folder]
	if !ok {
		files, _ := filepath.Glob(filepath.Join(e.root, folder, "*_test.go"))
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				return err
			}
			text += string(b)
		}
		if e.tests == nil {
			e.tests = make(map[string]string)
		}
		e.tests[folder] = text
	}
	if !strings.Contains(text, "\nfunc "+function+"(") {
		return fmt.Errorf("there is no %s in %s", function, folder)
	}
	return nil
}

func TestPlantedSemantics(t *testing.T) {
	good := func(n int) string {
		return fmt.Sprintf("| %d | a rule | same | what it does | `internal/rules.TestPlantedSemantics` |\n", n)
	}
	var all strings.Builder
	for n := range rows {
		all.WriteString(good(n + 1))
	}
	text := all.String()
	require.Empty(t, checkSemantics(root(t), text))
	for name, bad := range map[string]string{
		"missing row":     strings.Replace(text, good(7), "", 1),
		"last row":        strings.Replace(text, good(rows), "", 1),
		"unknown test":    strings.Replace(text, "TestPlantedSemantics", "TestNobodyWrote", 1),
		"unknown folder":  strings.Replace(text, "internal/rules.", "internal/nowhere.", 1),
		"unknown program": text + "`examples/nothing`\n",
		"part of a name":  strings.Replace(text, "TestPlantedSemantics", "TestPlantedSem", 1),
		"nothing named":   strings.Replace(text, "`internal/rules.TestPlantedSemantics`", "believe me", 1),
		"verdict":         strings.Replace(text, "same", "more or less", 1),
		"cells":           strings.Replace(text, "| same ", "", 1),
	} {
		require.NotEmpty(t, checkSemantics(root(t), bad), name)
	}
	require.Empty(t, checkSemantics(root(t), strings.Replace(text, good(9), "| 9 | a rule | void | one process | – |\n", 1)))
}
