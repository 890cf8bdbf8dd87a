package rules

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/embermq/embermq"

// rule says what a folder may import besides the standard library and itself.
type rule struct {
	anything bool
	exported bool     // every package of ours outside internal/
	inside   []string // our folders: "message", or "internal/..." for all below
	outside  []string // other modules, by the beginning of their import paths
	tests    []string // our folders that only its tests may import
}

const (
	btree    = "github.com/google/btree"
	compress = "github.com/klauspost/compress"
	pebble   = "github.com/cockroachdb/pebble/v2"
)

// rooms are the folders that stand beside each other: none knows another, and
// none knows the store.
var rooms = []string{"commitlog", "consumequeue", "index", "schedule", "txn", "dedupe", "progress"}

// rules is the table. A folder's rule also holds below it, unless a longer
// name has a rule of its own.
var rules = map[string]rule{
	"message":      {outside: []string{compress}},
	"commitlog":    {inside: []string{"message", "internal/..."}},
	"consumequeue": {inside: []string{"message", "internal/..."}},
	"index":        {inside: []string{"message", "internal/..."}},
	"dedupe":       {inside: []string{"message", "internal/..."}},
	"schedule":     {inside: []string{"message", "internal/..."}, outside: []string{btree}},
	"txn":          {inside: []string{"message", "internal/..."}, outside: []string{btree}},
	"txn/txntest":  {inside: []string{"message", "txn", "internal/..."}},
	"txn/pebbletx": {inside: []string{"message", "txn"}, outside: []string{pebble},
		tests: []string{"txn/txntest", "store"}},
	"txn/bbolttx": {inside: []string{"message", "txn"}, outside: []string{"go.etcd.io/bbolt"},
		tests: []string{"txn/txntest", "store"}},
	"txn/sqltx": {inside: []string{"message", "txn"}},
	"progress":  {inside: []string{"message", "group", "internal/..."}, outside: []string{btree}},
	"group":     {inside: []string{"message"}},
	"store": {inside: append([]string{"message", "group", "internal/..."}, rooms...),
		tests: []string{"embermqtest"}},
	"producer": {inside: []string{"message", "internal/fs", "internal/clock"},
		tests: []string{"store", "group", "index", "schedule"}},
	"consumer": {inside: []string{"message", "group", "internal/fs", "internal/clock"}, outside: []string{btree},
		tests: []string{"store", "producer"}},
	"typed": {inside: []string{"message", "producer", "consumer"},
		tests: []string{"store"}},
	"metrics": {inside: []string{"message", "store"}, outside: []string{"github.com/prometheus"},
		tests: []string{"group", "progress"}},
	"embermqtest": {exported: true, inside: []string{"internal/..."}, outside: []string{"go.uber.org/goleak"}},
	"examples":    {exported: true},
	"adapter":     {exported: true},
	"bench":       {anything: true},
	"cmd":         {anything: true},
	"interop":     {anything: true},

	// Leaves below everything. Nothing in internal knows a package of ours
	// outside it, so that kv and fs serve any room.
	"internal":       {inside: []string{"internal/..."}, outside: []string{"golang.org/x/sys"}},
	"internal/clock": {},
	"internal/plant": {},
	"internal/bet":   {},
	"internal/ident": {},
	"internal/fs":    {inside: []string{"internal/plant", "internal/clock"}, outside: []string{"golang.org/x/sys"}},
	// fstest is a test suite that more than one package's tests call.
	"internal/fs/fstest": {inside: []string{"internal/fs"}, outside: []string{testify}},
	"internal/kv/kvtest": {inside: []string{"internal/kv"}, outside: []string{btree}},
	"internal/kv":        {inside: []string{"internal/fs", "internal/clock", "internal/plant"}, outside: []string{pebble}},
	"internal/archive":   {inside: []string{"internal/fs"}, outside: []string{compress}},
	"internal/rules":     {},
}

const testify = "github.com/stretchr/testify/require"

// testModules is what any package's tests may import besides internal/.
var testModules = []string{testify, "go.uber.org/goleak", compress}

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath   string
	Dir          string
	Name         string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func TestImports(t *testing.T) {
	pkgs := listAll(t)
	require.Greater(t, len(pkgs), 3)
	for _, v := range checkImports(pkgs) {
		t.Error(v)
	}
}

// checkImports returns one line for each import that the table does not allow.
func checkImports(pkgs []pkg) []string {
	var bad []string
	for _, p := range pkgs {
		folder := inModule(p.ImportPath)
		name, r, ok := ruleOf(folder)
		if !ok {
			bad = append(bad, fmt.Sprintf("%s: no rule for this folder; add one to the table", p.ImportPath))
			continue
		}
		for _, imp := range p.Imports {
			if !r.allows(name, imp) {
				bad = append(bad, fmt.Sprintf("%s must not import %s", folder, imp))
			}
		}
		for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
			if !r.allows(name, imp) && !r.testsAllow(imp) {
				bad = append(bad, fmt.Sprintf("%s: its tests must not import %s", folder, imp))
			}
		}
	}
	slices.Sort(bad)
	return slices.Compact(bad)
}

// ruleOf finds the rule with the longest name that covers a folder. internal
// has a rule for all below it; a new folder elsewhere at the top has none.
func ruleOf(folder string) (string, rule, bool) {
	for name := folder; ; name = name[:strings.LastIndexByte(name, '/')] {
		if r, ok := rules[name]; ok {
			return name, r, true
		}
		if !strings.Contains(name, "/") {
			return "", rule{}, false
		}
	}
}

func (r rule) allows(own, imp string) bool {
	if r.anything || isStd(imp) {
		return true
	}
	if folder := inModule(imp); folder != "" {
		if name, _, ok := ruleOf(folder); ok && name == own && own != "internal" {
			return true
		}
		if r.exported && !strings.HasPrefix(folder, "internal/") && !isProgram(folder) {
			return true
		}
		return slices.ContainsFunc(r.inside, func(f string) bool { return covers(f, folder) })
	}
	return slices.ContainsFunc(r.outside, func(m string) bool { return imp == m || strings.HasPrefix(imp, m+"/") })
}

func (r rule) testsAllow(imp string) bool {
	if folder := inModule(imp); folder != "" {
		return !r.exported && covers("internal/...", folder) ||
			slices.ContainsFunc(r.tests, func(f string) bool { return covers(f, folder) })
	}
	return slices.ContainsFunc(testModules, func(m string) bool { return imp == m || strings.HasPrefix(imp, m+"/") })
}

// covers tells whether a table entry names a folder.
func covers(entry, folder string) bool {
	if all, ok := strings.CutSuffix(entry, "/..."); ok {
		return strings.HasPrefix(folder, all+"/")
	}
	return entry == folder
}

// isProgram names folders that nobody imports although they are not internal.
func isProgram(folder string) bool {
	top, _, _ := strings.Cut(folder, "/")
	return slices.Contains([]string{"bench", "cmd", "examples", "interop"}, top)
}

// isStd goes by the rule of the go command: the first element of other paths
// has a dot.
func isStd(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !strings.Contains(first, ".")
}

// inModule is the folder of one of our packages, "" for others. The module's
// root is ".".
func inModule(imp string) string {
	if imp == module {
		return "."
	}
	folder, ok := strings.CutPrefix(imp, module+"/")
	if !ok {
		return ""
	}
	return folder
}

// TestPlantedImports proves that the checker fails: one wrong import of each
// kind, and for each a right one beside it.
func TestPlantedImports(t *testing.T) {
	one := func(from string, imports ...string) pkg {
		return pkg{ImportPath: module + "/" + from, Imports: imports}
	}
	ours := func(folder string) string { return module + "/" + folder }
	wrong := map[string]pkg{
		"unknown_folder":          one("helpers", "fmt"),
		"package_at_the_root":     {ImportPath: module},
		"message_internal":        one("message", ours("internal/fs")),
		"message_room":            one("message", ours("commitlog")),
		"message_pebble":          one("message", pebble),
		"sibling":                 one("commitlog", ours("consumequeue")),
		"sibling_back":            one("consumequeue", ours("commitlog")),
		"room_store":              one("progress", ours("store")),
		"room_new_store":          one("schedule", ours("store")),
		"room_pebble":             one("commitlog", pebble),
		"room_btree":              one("index", btree),
		"room_below":              one("txn/deep", ours("progress")),
		"commitlog_group":         one("commitlog", ours("group")),
		"group_internal":          one("group", ours("internal/clock")),
		"store_pebble":            one("store", pebble),
		"store_producer":          one("store", ours("producer")),
		"producer_store":          one("producer", ours("store")),
		"producer_kv":             one("producer", ours("internal/kv")),
		"producer_group":          one("producer", ours("group")),
		"consumer_store":          one("consumer", ours("store")),
		"consumer_kv":             one("consumer", ours("internal/kv")),
		"consumer_producer":       one("consumer", ours("producer")),
		"typed_store":             one("typed", ours("store")),
		"metrics_room":            one("metrics", ours("commitlog")),
		"examples_internal":       one("examples/quickstart", ours("internal/fs")),
		"examples_program":        one("examples/quickstart", ours("bench")),
		"examples_other_module":   one("examples/quickstart", testify),
		"adapter_internal":        one("adapter/http", ours("internal/env")),
		"embermqtest_pebble":      one("embermqtest", pebble),
		"internal_message":        one("internal/crash", ours("message")),
		"kv_message":              one("internal/kv", ours("message")),
		"kv_env":                  one("internal/kv", ours("internal/env")),
		"internal_btree":          one("internal/invariants", btree),
		"clock_fs":                one("internal/clock", ours("internal/fs")),
		"fs_pebble":               one("internal/fs", pebble),
		"testify_outside_tests":   one("commitlog", testify),
		"pebbletx_store":          one("txn/pebbletx", ours("store")),
		"unknown_module":          one("store", "example.com/left/pad"),
		"tests_sibling":           {ImportPath: ours("index"), TestImports: []string{ours("commitlog")}},
		"external_tests_sibling":  {ImportPath: ours("index"), XTestImports: []string{ours("commitlog")}},
		"tests_store":             {ImportPath: ours("dedupe"), TestImports: []string{ours("store")}},
		"tests_second_assertions": {ImportPath: ours("message"), TestImports: []string{"github.com/stretchr/testify/assert"}},
		"examples_tests_internal": {ImportPath: ours("examples/quickstart"), TestImports: []string{ours("internal/fs")}},
	}
	for name, p := range wrong {
		t.Run(name, func(t *testing.T) { require.Len(t, checkImports([]pkg{p}), 1) })
	}
	right := []pkg{
		one("message", "fmt", compress+"/zstd"),
		one("commitlog", ours("message"), ours("internal/fs"), ours("internal/plant")),
		one("schedule", ours("message"), btree),
		one("txn/pebbletx", ours("txn"), pebble),
		one("store", ours("commitlog"), ours("index"), ours("internal/env"), ours("group")),
		one("producer", ours("message"), ours("internal/clock")),
		{ImportPath: ours("producer"), XTestImports: []string{ours("store"), ours("producer")}},
		one("consumer", ours("group"), btree),
		one("examples/quickstart", ours("store"), ours("message")),
		{ImportPath: ours("examples/quickstart"), TestImports: []string{testify}},
		one("bench", ours("internal/kv"), "example.com/rival"),
		one("cmd/embermq", ours("store"), ours("internal/fs")),
		one("internal/env", ours("internal/fs"), ours("internal/clock"), ours("internal/crash")),
		one("internal/kv", ours("internal/fs"), pebble+"/vfs"),
		{ImportPath: ours("index"), TestImports: []string{ours("internal/crash"), testify}},
	}
	require.Empty(t, checkImports(right))
}

// listAll lists the module's packages as every platform and tag sees them.
func listAll(t *testing.T) []pkg {
	t.Helper()
	all := make(map[string]pkg)
	for _, goos := range []string{"linux", "darwin", "windows"} {
		for _, tags := range []string{"", "plant"} {
			for _, p := range list(t, goos, tags) {
				old, ok := all[p.ImportPath]
				if ok {
					p.Imports = append(p.Imports, old.Imports...)
					p.TestImports = append(p.TestImports, old.TestImports...)
					p.XTestImports = append(p.XTestImports, old.XTestImports...)
				}
				all[p.ImportPath] = p
			}
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b pkg) int { return strings.Compare(a.ImportPath, b.ImportPath) })
}

func list(t *testing.T, goos, tags string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-tags="+tags, "-json=ImportPath,Dir,Name,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0", "GOFLAGS=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := dec.Decode(&p)
		if err == io.EOF {
			return pkgs
		}
		require.NoError(t, err)
		pkgs = append(pkgs, p)
	}
}

// root is the repository's folder.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	_, err = os.Stat(filepath.Join(dir, "go.mod"))
	require.NoError(t, err)
	return dir
}
