package rules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEngines keeps the Engine interfaces of producer and consumer free of our
// other packages. Go matches an interface only if the signatures use the same
// types, so an Engine that names a type of store, or one of its own package,
// could not be met by another engine.
func TestEngines(t *testing.T) {
	for _, folder := range []string{"producer", "consumer"} {
		dir := filepath.Join(root(t), folder)
		if _, err := os.Stat(dir); os.IsNotExist(err) {
			continue
		}
		e := parseEngines(t, dir)
		require.NotEmpty(t, e.interfaces(), "%s has no Engine interface", folder)
		for _, v := range e.check() {
			t.Errorf("%s: %s", folder, v)
		}
	}
}

// engines is a package's declarations with the imports of their files.
type engines struct {
	decls map[string]decl
}

type decl struct {
	spec    *ast.TypeSpec
	imports map[string]string // name in the file → path
}

func parseEngines(t *testing.T, dir string) *engines {
	t.Helper()
	e := &engines{decls: make(map[string]decl)}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != ".go" || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		src, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		require.NoError(t, err)
		e.add(t, entry.Name(), string(src))
	}
	return e
}

func (e *engines) add(t *testing.T, name, src string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution)
	require.NoError(t, err)
	imports := importNames(file)
	for _, d := range file.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.TYPE {
			for _, s := range g.Specs {
				spec := s.(*ast.TypeSpec)
				e.decls[spec.Name.Name] = decl{spec, imports}
			}
		}
	}
}

// importNames maps the names under which a file knows packages to their paths.
func importNames(file *ast.File) map[string]string {
	names := make(map[string]string)
	for _, imp := range file.Imports {
		p, _ := strconv.Unquote(imp.Path.Value)
		name := path.Base(p)
		if imp.Name != nil {
			name = imp.Name.Name
		}
		names[name] = p
	}
	return names
}

// interfaces are the exported interfaces whose names end in Engine.
func (e *engines) interfaces() []string {
	var names []string
	for name, d := range e.decls {
		if _, ok := d.spec.Type.(*ast.InterfaceType); ok && ast.IsExported(name) && strings.HasSuffix(name, "Engine") {
			names = append(names, name)
		}
	}
	return names
}

func (e *engines) check() []string {
	var bad []string
	for _, name := range e.interfaces() {
		d := e.decls[name]
		bad = append(bad, e.walk(name, d.spec.Type, d.imports, 0)...)
	}
	return bad
}

// walk goes through everything that a type expression names.
func (e *engines) walk(where string, x ast.Node, imports map[string]string, depth int) (bad []string) {
	if depth > 20 {
		return []string{where + " is declared in a circle"}
	}
	ast.Inspect(x, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			bad = append(bad, e.walk(where, n.Type, imports, depth+1)...)
			return false // the names of methods and parameters are not types
		case *ast.SelectorExpr:
			if p := imports[n.X.(*ast.Ident).Name]; !mayName(p) {
				bad = append(bad, fmt.Sprintf("%s names %s.%s of %q", where, n.X, n.Sel, p))
			}
			return false
		case *ast.Ident:
			bad = append(bad, e.ident(where, n.Name, depth)...)
		}
		return true
	})
	return bad
}

// ident judges a name without a package: Go's own, an alias of something that
// may be named, or an interface of this package that is embedded.
func (e *engines) ident(where, name string, depth int) []string {
	if d, ok := e.decls[name]; ok {
		_, isInterface := d.spec.Type.(*ast.InterfaceType)
		if d.spec.Assign.IsValid() || isInterface {
			return e.walk(where, d.spec.Type, d.imports, depth+1)
		}
	} else if types.Universe.Lookup(name) != nil {
		return nil
	}
	return []string{fmt.Sprintf("%s names %s, a type of its own package", where, name)}
}

func mayName(p string) bool {
	return p != "" && isStd(p) || p == module+"/message" || p == module+"/group"
}

func TestPlantedEngines(t *testing.T) {
	const head = "package p\nimport (\n\"context\"\n\"" + module + "/message\"\n\"" + module + "/group\"\n" +
		"\"" + module + "/store\"\nalias \"" + module + "/progress\"\n. \"" + module + "/commitlog\"\n)\n"
	cases := []struct {
		name, src string
		bad       int
	}{
		{"good", `type Engine interface {
			Put(ctx context.Context, m *message.Message) (message.Receipt, error)
			Lease(c group.Claim, f func(*message.Record) error, many map[message.Queue][]int64) <-chan error
		}`, 0},
		{"good_alias", "type Engine interface { Put(Message) error }\ntype Message = message.Message", 0},
		{"good_embedded", "type Engine interface { part }\ntype part interface { Close() error }", 0},
		{"unexported_is_free", "type engine interface { Stats() store.Stats }", 0},
		{"parameter", "type Engine interface { Put(s *store.Store) error }", 1},
		{"result", "type Engine interface { Stats() (store.Stats, error) }", 1},
		{"renamed_import", "type Engine interface { Progress() *alias.Progress }", 1},
		{"inside_a_function", "type Engine interface { Each(func(map[string]store.Topic) bool) }", 1},
		{"inside_a_type_argument", "type Engine interface { All() iter[store.Topic] }", 2},
		{"own_type", "type Engine interface { Put(o Option) error }\ntype Option func()", 1},
		{"dot_import", "type Engine interface { Log() *Log }", 1},
		{"alias_of_wrong", "type Engine interface { Put(T) error }\ntype T = store.Topic", 1},
		{"embedded_wrong", "type Engine interface { part }\ntype part interface { Stats() store.Stats }", 1},
		{"embedded_foreign", "type Engine interface { alias.Engine }", 1},
		{"second_engine", "type TxEngine interface { Stats() store.Stats }", 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e := &engines{decls: make(map[string]decl)}
			e.add(t, "p.go", head+c.src)
			require.Len(t, e.check(), c.bad)
		})
	}
}
