package store_test

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

var straceEvery = flag.Int("strace.every", 3, "TestStrace tries one of so many faults; 1 is all")

// straceRole, in the environment, makes the test binary a process whose system calls
// fail: it holds the store's directory.
const straceRole = "EMBERMQ_STRACE_CHILD"

// typedFault tells whether an error says what has happened to a caller.
func typedFault(err error) bool {
	var errno syscall.Errno
	return errors.Is(err, store.ErrPoisoned) || errors.Is(err, store.ErrDiskFull) || errors.Is(err, store.ErrClosed) || typedDamage(err) || errors.As(err, &errno)
}

// TestStraceChild puts, reads and commits while its system calls fail. It prints what
// was acknowledged, and "lived" at its end.
func TestStraceChild(t *testing.T) {
	dir := os.Getenv(straceRole)
	if dir == "" {
		t.Skip("only for TestStrace")
	}
	said := func(what string, err error) {
		if err != nil && !typedFault(err) {
			fmt.Printf("untyped %s: %T: %v\n", what, err, err)
		} else if err != nil {
			fmt.Printf("failed %s: %v\n", what, err)
		}
	}
	s, err := store.Open(dir, killOptions(message.OnDisk)...)
	said("open", err)
	if err == nil {
		q := message.Queue{Topic: "kill", ID: 1}
		for i := range uint64(400) {
			r, err := s.Put(ctx, &message.Message{Topic: "kill", QueueID: 1, Body: killBody(i)})
			if said("put", err); err != nil {
				continue
			}
			fmt.Printf("ack %d %d\n", i, r.Offset)
			if i%16 == 0 {
				said("commit", s.Commit(ctx, "readers", map[message.Queue]int64{q: r.Offset + 1}))
				_, err = s.Read(ctx, q, r.Offset, message.Limit{}, nil)
				said("read", err)
			}
		}
		said("close", s.Close())
	}
	fmt.Println("lived")
}

// TestStrace lets system calls of a real process on real files fail, as strace can,
// below everything that this repository could get wrong about itself. The process
// lives, each error is a typed one, and what was acknowledged is there afterwards.
//
// strace counts calls for each thread apart; "20+" is the 20th of a thread and all that
// follow.
func TestStrace(t *testing.T) {
	if testing.Short() {
		t.Skip("needs processes")
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("NOT TESTED: strace is not installed")
	}
	if out, err := exec.Command(strace, "-qq", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: nobody may trace processes here: %v: %s", err, out)
	}
	var injected, noticed []string
	tried := 0
	for i, fault := range []string{
		"fdatasync:error=EIO:when=1+", "fdatasync:error=EIO:when=20", "fdatasync:error=ENOSPC:when=40+",
		"fsync:error=EIO:when=1+", "fsync:error=EIO:when=5+", "fsync:error=EIO:when=8",
		"pwrite64:error=ENOSPC:when=30+", "pwrite64:error=ENOSPC:when=25", "pwrite64:error=EIO:when=60+", "pwrite64:error=EDQUOT:when=100+",
		"pwrite64:error=EROFS:when=10+",
		"openat:error=EMFILE:when=30+", "openat:error=EMFILE:when=45", "openat:error=EROFS:when=60+",
		"renameat,renameat2:error=EIO:when=1+", "ftruncate:error=ENOSPC:when=3+", "fallocate:error=ENOSPC:when=1+",
		"unlinkat:error=EIO:when=1+", "mkdirat:error=EACCES:when=1+",
		"openat2:error=EMFILE:when=20+", "openat2:error=EIO:when=30",
	} {
		if i%*straceEvery != 0 {
			continue
		}
		t.Run(fault, func(t *testing.T) {
			tried++
			hit, told := underStrace(t, strace, fault)
			if hit {
				injected = append(injected, fault)
			}
			if told {
				noticed = append(noticed, fault)
			}
		})
	}
	t.Logf("%d of %d faults came about, a caller was told of %d", len(injected), tried, len(noticed))
	require.GreaterOrEqual(t, len(injected), tried*2/3, "%v", injected)
	require.GreaterOrEqual(t, len(noticed), tried/2, "%v", noticed)
}

// underStrace runs one process and looks at what it left. It tells whether a call was
// made to fail, and whether a caller has got an error.
func underStrace(t *testing.T, strace, fault string) (injected, noticed bool) {
	t.Helper()
	dir, trace := t.TempDir(), filepath.Join(t.TempDir(), "trace")
	first, err := store.Open(dir, killOptions(message.OnDisk)...)
	require.NoError(t, err)
	require.NoError(t, first.CreateTopic(ctx, store.Topic{Name: "kill"}))
	require.NoError(t, first.Close())
	calls, _, _ := strings.Cut(fault, ":")
	cmd := exec.Command(strace, "-f", "-qq", "-o", trace, "-e", "trace="+calls, "-e", "inject="+fault, os.Args[0], "-test.run=^TestStraceChild$", "-test.timeout=30s")
	cmd.Env = append(os.Environ(), straceRole+"="+dir)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "lived\n")
	injected = strings.Contains(string(must(os.ReadFile(trace))), "(INJECTED)")
	acked := map[int64]uint64{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		line := lines.Text()
		require.False(t, strings.HasPrefix(line, "untyped "), line)
		noticed = noticed || strings.HasPrefix(line, "failed ")
		var n uint64
		var offset int64
		if k, _ := fmt.Sscanf(line, "ack %d %d", &n, &offset); k == 2 {
			acked[offset] = n
		}
	}
	s, err := store.Open(dir, killOptions(message.OnDisk)...)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	for offset, n := range acked {
		b, err := s.Read(ctx, message.Queue{Topic: "kill", ID: 1}, offset, message.Limit{Count: 1}, nil)
		require.NoError(t, err)
		require.Equal(t, killBody(n), b.Records[0].Body(), "message %d", n)
	}
	checkOK(t, s)
	return injected, noticed
}
