package rules

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
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

// shown is what users call first: of each folder its exported functions and the
// methods of some types, which may be another folder's that only this one gives out.
// The Examples of the folder use each of them.
var shown = []struct {
	folder string
	// in is the folder with the Examples, when they need more than the module has.
	in    string
	types []string
	// except are functions that serve other packages of ours, not users.
	except []string
}{
	{folder: "message", types: []string{"Pending"}, except: []string{
		// What packages below the store are made of.
		"AppendBatch", "BatchItems", "Compress", "EncodeBlank", "Filler", "FoldName", "Frame", "GroupValue", "Hex16", "Inflate",
		"ParseHex16", "ParseRecord", "TagHash", "NewIDs",
	}},
	{folder: "store", types: []string{"Store", "DeadLetters", "schedule.Timers", "txn.Halves", "group.Coordinator"}, except: []string{
		"WithEnvironment",                                                               // takes internal types
		"txn.Halves.Attach",                                                             // the Examples of the resources
		"txn.Halves.State",                                                              // what those ask
		"group.Coordinator.Close", "group.Coordinator.Valid", "group.Coordinator.Fence", // the store's own
		"group.Coordinator.Do", "group.Coordinator.Refresh",
	}},
	{folder: "producer", types: []string{"Producer", "TxProducer", "Spool"}, except: []string{"WithClock"}},
	{folder: "consumer", types: []string{"Push", "Pull", "Leaser"}, except: []string{"WithClock"}},
	{folder: "group", except: []string{"New"}},
	{folder: "typed", types: []string{"Topic"}},
	{folder: "metrics"},
	{folder: "embermqtest", types: []string{"Store"}, except: []string{"Store.Settle"}},
	{folder: "interop"},
	{folder: "txn/sqltx", in: "txn/sqltx/sqlitetest", types: []string{"Resource"}, except: asked},
	{folder: "txn/pebbletx", types: []string{"Resource"}, except: asked},
	{folder: "txn/bbolttx", types: []string{"Resource"}, except: asked},
	{folder: "adapter/gocloud"},
	{folder: "adapter/watermill"},
}

// asked is what the store calls of a resource.
var asked = []string{"Resource.Forget", "Resource.Markers", "Resource.Settle"}

// TestEveryEntryPointHasAnExample asks the type checker which functions the Examples
// of a folder, and what they call in its tests, use.
func TestEveryEntryPointHasAnExample(t *testing.T) {
	e := newExamples(t)
	for _, s := range shown {
		t.Run(s.folder, func(t *testing.T) {
			entries := e.entries(t, s.folder, s.types)
			for _, name := range s.except {
				require.Contains(t, entries, name, "an exception for nothing")
				delete(entries, name)
			}
			require.NotEmpty(t, entries)
			files, err := e.files(cmp.Or(s.in, s.folder), true)
			require.NoError(t, err)
			used := e.used(files)
			for _, name := range slices.Sorted(maps.Keys(entries)) {
				if !used[entries[name]] {
					t.Errorf("no Example of %s shows %s", s.folder, name)
				}
			}
		})
	}
	t.Run("planted", e.planted)
}

type examples struct {
	root    string
	set     *token.FileSet
	exports map[string]string // of built packages
	built   types.Importer
	source  map[string]*types.Package
}

// newExamples builds the packages and reads them through their export data.
func newExamples(t *testing.T) *examples {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-json=ImportPath,Export"}
	for _, s := range shown {
		if _, err := os.Stat(filepath.Join(root(t), s.folder, "go.mod")); err != nil {
			args = append(args, "./"+s.folder)
		}
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = root(t)
	out, err := cmd.Output()
	require.NoError(t, err)
	e := &examples{root: root(t), set: token.NewFileSet(), exports: make(map[string]string), source: make(map[string]*types.Package)}
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p struct{ ImportPath, Export string }
		require.NoError(t, dec.Decode(&p))
		e.exports[p.ImportPath] = p.Export
	}
	e.built = importer.ForCompiler(e.set, "gc", func(path string) (io.ReadCloser, error) { return os.Open(e.exports[path]) })
	return e
}

// Import is types.Importer. Our packages in modules of their own are not built but
// read from their source, as far as it goes without those modules.
func (e *examples) Import(path string) (*types.Package, error) {
	if e.exports[path] != "" {
		return e.built.Import(path)
	}
	if inModule(path) == "" {
		return nil, fmt.Errorf("%s is not built", path)
	}
	if p := e.source[path]; p != nil {
		return p, nil
	}
	files, err := e.files(inModule(path), false)
	if err != nil {
		return nil, err
	}
	config := types.Config{Importer: e, Error: func(error) {}}
	p, _ := config.Check(path, e.set, files, nil)
	p.MarkComplete()
	e.source[path] = p
	return p, nil
}

// entries are a folder's functions and methods, by a name for people.
func (e *examples) entries(t *testing.T, folder string, typeNames []string) map[string]string {
	t.Helper()
	pkg, err := e.Import(module + "/" + folder)
	require.NoError(t, err)
	all := make(map[string]string)
	for _, name := range pkg.Scope().Names() {
		if f, ok := pkg.Scope().Lookup(name).(*types.Func); ok && f.Exported() {
			all[name] = f.FullName()
		}
	}
	for _, name := range typeNames {
		from, short := pkg, name
		if other, of, ok := strings.Cut(name, "."); ok {
			from, err = e.Import(module + "/" + other)
			require.NoError(t, err)
			short = of
		}
		object := from.Scope().Lookup(short)
		require.NotNil(t, object, name)
		for m := range object.Type().(*types.Named).Methods() {
			if m.Exported() {
				all[name+"."+m.Name()] = m.FullName()
			}
		}
	}
	return all
}

// files parses a folder's tests that are packages of their own, as a user's code is,
// or what is no test.
func (e *examples) files(folder string, tests bool) (files []*ast.File, err error) {
	names, err := filepath.Glob(filepath.Join(e.root, folder, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") != tests {
			continue
		}
		file, err := parser.ParseFile(e.set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(file.Name.Name, "_test") == tests {
			files = append(files, file)
		}
	}
	return files, nil
}

// used are the functions that Examples reach, by their full names.
func (e *examples) used(files []*ast.File) map[string]bool {
	info := &types.Info{Defs: make(map[*ast.Ident]types.Object), Uses: make(map[*ast.Ident]types.Object)}
	// What only the package's own tests export does not resolve, which no Example uses.
	config := types.Config{Importer: e, Error: func(error) {}}
	_, _ = config.Check("test", e.set, files, info)
	bodies := make(map[types.Object]ast.Node)
	var todo []ast.Node
	for _, file := range files {
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				bodies[info.Defs[d.Name]] = d.Body
				if d.Recv == nil && strings.HasPrefix(d.Name.Name, "Example") {
					todo = append(todo, d.Body)
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if v, ok := s.(*ast.ValueSpec); ok {
						for _, name := range v.Names {
							bodies[info.Defs[name]] = v
						}
					}
				}
			}
		}
	}
	used := make(map[string]bool)
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		ast.Inspect(n, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && info.Uses[id] != nil {
				object := info.Uses[id]
				if body, ok := bodies[object]; ok {
					delete(bodies, object)
					todo = append(todo, body)
				}
				if f, ok := object.(*types.Func); ok {
					used[f.Origin().FullName()] = true
				}
			}
			return true
		})
	}
	return used
}

// planted shows that what no Example reaches counts as not shown.
func (e *examples) planted(t *testing.T) {
	const src = `package p_test
import "` + module + `/typed"
var topic = typed.New[int]("a")
type other struct{}
func (other) WithCodec() {}
func ExampleNew() { helper() }
func helper() { _ = topic.Name(); other{}.WithCodec() }
func unreached() { _ = topic.Handler }
`
	file, err := parser.ParseFile(e.set, "p_test.go", src, parser.SkipObjectResolution)
	require.NoError(t, err)
	used := e.used([]*ast.File{file})
	entries := e.entries(t, "typed", []string{"Topic"})
	require.Contains(t, entries, "Topic.Handler")
	for name, full := range entries {
		require.Equal(t, name == "New" || name == "Topic.Name", used[full], name)
	}
}
