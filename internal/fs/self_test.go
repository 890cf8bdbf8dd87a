package fs

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// runSelf runs one test of this binary in a process of its own.
func runSelf(t *testing.T, test, env string) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, "-test.run=^"+test+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
