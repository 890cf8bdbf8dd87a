package fs

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// stepwise turns openat2 off until the returned function is called.
func stepwise() (restore func()) {
	old := noOpenat2.Swap(true)
	return func() { noOpenat2.Store(old) }
}

func TestPipesAndFoldersAreNotFiles(t *testing.T) {
	for _, walk := range []string{"kernel", "steps"} {
		t.Run(walk, func(t *testing.T) {
			if walk == "steps" {
				defer stepwise()()
			}
			dir := t.TempDir()
			require.NoError(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
			f := open(t, dir)
			for _, name := range []string{"pipe", "."} {
				for _, flag := range []Flag{0, ReadOnly, Create} {
					_, err := f.Open(name, flag)
					require.Error(t, err, name)
				}
			}
		})
	}
}

// TestRecordLockConflicts takes a record lock of the whole file as Java does,
// in another process, because a process never conflicts with its own.
func TestRecordLockConflicts(t *testing.T) {
	if name := os.Getenv("EMBER_TEST_LOCK"); name != "" {
		f, err := OS(filepath.Dir(name))
		require.NoError(t, err)
		_, err = f.Lock(filepath.Base(name))
		require.ErrorIs(t, err, ErrLockHeld)
		held, err := f.Locked(filepath.Base(name))
		require.NoError(t, err)
		require.True(t, held)
		return
	}
	name := filepath.Join(t.TempDir(), "lock")
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	lk := unix.Flock_t{Type: unix.F_WRLCK}
	require.NoError(t, unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lk))
	runSelf(t, "TestRecordLockConflicts", "EMBER_TEST_LOCK="+name)
}

// TestOurLockStopsRecordLock is the other direction: Java must see our lock.
func TestOurLockStopsRecordLock(t *testing.T) {
	if name := os.Getenv("EMBER_TEST_LOCK"); name != "" {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		require.NoError(t, err)
		lk := unix.Flock_t{Type: unix.F_WRLCK}
		require.ErrorIs(t, unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lk), unix.EAGAIN)
		return
	}
	dir := t.TempDir()
	l, err := open(t, dir).Lock("lock")
	require.NoError(t, err)
	defer l.Close()
	runSelf(t, "TestOurLockStopsRecordLock", "EMBER_TEST_LOCK="+filepath.Join(dir, "lock"))
}

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
