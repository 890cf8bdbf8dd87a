package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var commandBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```")

// TestOperate runs the commands of docs/operate.md, one after the other.
func TestOperate(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "operate.md"))
	require.NoError(t, err)
	sample(t)
	n := 0
	for _, block := range commandBlock.FindAllStringSubmatch(string(b), -1) {
		for line := range strings.Lines(block[1]) {
			out, code := sh(t, strings.TrimSpace(line))
			require.Zero(t, code, "%s\n%s", line, out)
			n++
		}
	}
	require.Greater(t, n, 20)
}
