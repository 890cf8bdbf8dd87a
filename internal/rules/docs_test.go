package rules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// known are methods whose contract is the standard library's: they say no more
// than their name.
var known = []string{"Error", "String", "Unwrap"}

// TestDocComments asks for a comment on every package and on every exported
// identifier of exported packages: it is the contract that users read.
func TestDocComments(t *testing.T) {
	for _, p := range listAll(t) {
		folder := inModule(p.ImportPath)
		files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		require.NoError(t, err)
		d := &docs{set: token.NewFileSet(), exported: make(map[string]bool)}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			src, err := os.ReadFile(name)
			require.NoError(t, err)
			rel, err := filepath.Rel(root(t), name)
			require.NoError(t, err)
			d.add(t, filepath.ToSlash(rel), string(src))
		}
		if len(d.files) == 0 {
			continue
		}
		api := p.Name != "main" && !strings.HasPrefix(folder, "internal/")
		for _, v := range d.check(p.Name, api) {
			t.Error(v)
		}
	}
}

type docs struct {
	set      *token.FileSet
	files    []*ast.File
	exported map[string]bool // types whose methods users can see
}

func (d *docs) add(t *testing.T, name, src string) {
	t.Helper()
	file, err := parser.ParseFile(d.set, name, src, parser.ParseComments|parser.SkipObjectResolution)
	require.NoError(t, err)
	d.files = append(d.files, file)
	for _, decl := range file.Decls {
		if g, ok := decl.(*ast.GenDecl); ok && g.Tok == token.TYPE {
			for _, s := range g.Specs {
				name := s.(*ast.TypeSpec).Name.Name
				d.exported[name] = ast.IsExported(name)
			}
		}
	}
}

// check lists what has no comment; api adds the exported identifiers to it.
func (d *docs) check(name string, api bool) (bad []string) {
	documented := false
	for _, file := range d.files {
		documented = documented || file.Doc.Text() != ""
		if api {
			for _, decl := range file.Decls {
				bad = append(bad, d.decl(decl)...)
			}
		}
	}
	if !documented {
		bad = append(bad, fmt.Sprintf("%s: package %s has no comment", d.set.Position(d.files[0].Pos()), name))
	}
	return bad
}

func (d *docs) decl(decl ast.Decl) (bad []string) {
	missing := func(id *ast.Ident, comments ...*ast.CommentGroup) {
		for _, c := range comments {
			if c.Text() != "" {
				return
			}
		}
		if id.IsExported() {
			bad = append(bad, fmt.Sprintf("%s: %s has no comment", d.set.Position(id.Pos()), id.Name))
		}
	}
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Recv == nil || d.exported[receiver(decl)] && !slices.Contains(known, decl.Name.Name) {
			missing(decl.Name, decl.Doc)
		}
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				missing(spec.Name, spec.Doc, spec.Comment, decl.Doc)
			case *ast.ValueSpec:
				for _, id := range spec.Names {
					missing(id, spec.Doc, spec.Comment, decl.Doc)
				}
			}
		}
	}
	return bad
}

// receiver is the name of a method's type.
func receiver(f *ast.FuncDecl) string {
	x := f.Recv.List[0].Type
	for {
		switch y := x.(type) {
		case *ast.StarExpr:
			x = y.X
		case *ast.IndexExpr:
			x = y.X
		case *ast.IndexListExpr:
			x = y.X
		case *ast.Ident:
			return y.Name
		default:
			return ""
		}
	}
}

func TestPlantedDocComments(t *testing.T) {
	cases := []struct {
		name, src string
		bad       int
	}{
		{"clean", "// Package p.\npackage p\n// F does.\nfunc F() {}\nfunc g() {}", 0},
		{"package", "package p", 1},
		{"func", "// Package p.\npackage p\nfunc F() {}", 1},
		{"type", "// Package p.\npackage p\ntype T int", 1},
		{"method", "// Package p.\npackage p\n// T is.\ntype T int\nfunc (t *T) M() {}", 1},
		{"method_of_unexported", "// Package p.\npackage p\ntype t int\nfunc (t) M() {}", 0},
		{"known_method", "// Package p.\npackage p\n// T is.\ntype T int\nfunc (t T) String() string { return \"\" }", 0},
		{"known_name_is_no_method", "// Package p.\npackage p\nfunc String() {}", 1},
		{"generic_method", "// Package p.\npackage p\n// T is.\ntype T[A, B any] int\nfunc (t *T[A, B]) M() {}", 1},
		{"group", "// Package p.\npackage p\n// The limits.\nconst (\nA = 1\nB = 2\n)", 0},
		{"one_of_group", "// Package p.\npackage p\nconst (\nA = 1 // the first\nB = 2\n)", 1},
		{"directive_is_no_comment", "// Package p.\npackage p\n//go:noinline\nfunc F() {}", 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := &docs{set: token.NewFileSet(), exported: make(map[string]bool)}
			d.add(t, "p.go", c.src)
			require.Len(t, d.check("p", true), c.bad)
		})
	}
}
