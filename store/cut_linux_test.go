package store_test

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

var powerCuts = flag.Int("cut.cycles", 0, "power cuts of a loop-mounted ext4 that TestRealPowerCut makes; needs root, mkfs.ext4, losetup and xfs_io")

// TestRealPowerCut cuts a real file system off from its disk while a process
// puts messages into a store on it, mounts it again, and demands everything
// that was acknowledged OnDisk. It checks the simulation's idea of a disk.
func TestRealPowerCut(t *testing.T) {
	if *powerCuts == 0 {
		t.Skip("SKIPPED: only with -cut.cycles")
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED LOUDLY: real power cuts need root")
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount", "losetup", "xfs_io"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED LOUDLY: real power cuts need %s (xfs_io is in xfsprogs)", tool)
		}
	}
	disk := filepath.Join(t.TempDir(), "disk.img")
	mnt := filepath.Join(t.TempDir(), "mnt")
	require.NoError(t, os.Mkdir(mnt, 0o700))
	f, err := os.Create(disk)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(96<<20))
	require.NoError(t, f.Close())
	command := func(name string, args ...string) error {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
		}
		return nil
	}
	require.NoError(t, command("mkfs.ext4", "-q", "-m0", disk))
	if err := command("mount", "-o", "loop", disk, mnt); err != nil {
		t.Skipf("SKIPPED LOUDLY: no loop mount here: %v", err)
	}
	t.Cleanup(func() { _ = command("umount", mnt) })

	begun, acks := time.Now(), 0
	acked := [killProducers]int64{}
	dir := filepath.Join(mnt, "store")
	for range *powerCuts {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
		cmd.Env = append(os.Environ(), killRole+"="+strconv.Itoa(int(message.OnDisk))+" "+dir)
		pipe, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		until, cut := 1+rand.IntN(200), make(chan error, 1)
		started := false
		lines := bufio.NewReader(pipe)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				break // the child dies of its own put, which failed
			}
			var p int
			var n, offset int64
			if k, _ := fmt.Sscanf(line, "ack %d %d %d\n", &p, &n, &offset); k != 3 {
				continue
			}
			acked[p] = max(acked[p], n+1)
			if acks++; acks%until == until-1 && !started {
				started = true
				go func() { cut <- command("xfs_io", "-x", "-c", "shutdown", mnt) }()
			}
		}
		require.True(t, started, "the child ended before the power was cut")
		require.NoError(t, <-cut)
		require.Error(t, cmd.Wait())
		require.NoError(t, command("umount", mnt))
		require.NoError(t, command("mount", "-o", "loop", disk, mnt))
		lookAfterKill(t, dir, message.OnDisk, &acked)
	}
	t.Logf("%d real power cuts in %v, %d messages acknowledged, none lost", *powerCuts, time.Since(begun).Round(time.Millisecond), acks)
}
