package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocuments runs the commands that README and guides show: the lines of a block
// that begin with embermq, one after the other, on the sample store.
func TestDocuments(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "docs", "guide", "*.md"))
	require.NoError(t, err)
	texts := make(map[string]string)
	for _, f := range append(files, filepath.Join("..", "..", "README.md")) {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		texts[filepath.Base(f)] = string(b)
	}
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```")
	ran := 0
	for name, text := range texts {
		t.Run(name, func(t *testing.T) {
			for _, block := range blocks.FindAllStringSubmatch(text, -1) {
				if !strings.HasPrefix(block[1], "embermq ") {
					continue
				}
				sample(t)
				for line := range strings.Lines(block[1]) {
					ran++
					line, _, _ = strings.Cut(line, " # ")
					out, code := sh(t, strings.TrimSpace(line))
					require.Zero(t, code, "%s\n%s", line, out)
				}
			}
		})
	}
	require.Greater(t, ran, 10)
}
