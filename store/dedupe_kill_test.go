package store_test

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

var dedupeKills = flag.Int("dedupe.kills", 8, "processes that TestDedupeKill kills")

// dedupeRole, in the environment, makes the test binary a process to be killed: the
// first number to put, and the store's directory.
const dedupeRole = "EMBERMQ_DEDUPE_CHILD"

func dedupeKillOptions() []store.Option {
	return append(killOptions(message.InCache), store.WithDedupe(time.Hour, 1_000_000))
}

// TestDedupeKillChild is the process to be killed. It puts one key after the other,
// each by two goroutines, and prints "key position" for each answer.
func TestDedupeKillChild(t *testing.T) {
	role := os.Getenv(dedupeRole)
	if role == "" {
		t.Skip("only for TestDedupeKill")
	}
	first, dir, _ := strings.Cut(role, " ")
	from, err := strconv.Atoi(first)
	require.NoError(t, err)
	s, err := store.Open(dir, dedupeKillOptions()...)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for n := from; ; n++ {
				r, err := s.Put(ctx, withKey("t", fmt.Sprint("key-", n)))
				if err != nil {
					panic(err)
				}
				fmt.Fprintf(os.Stdout, "ack %d %d\n", n, r.Position)
			}
		})
	}
	wg.Wait()
}

// TestDedupeKill kills processes that put messages with keys, and lets the next one
// put the last keys again, as a sender does that got no answer: each key lies in
// the store once, where its first answer said.
func TestDedupeKill(t *testing.T) {
	if testing.Short() {
		t.Skip("needs processes")
	}
	dir := t.TempDir()
	acked := map[int]int64{}
	last := -1
	for range *dedupeKills {
		cmd := exec.Command(os.Args[0], "-test.run=^TestDedupeKillChild$")
		cmd.Env = append(os.Environ(), dedupeRole+"="+strconv.Itoa(max(0, last-20))+" "+dir)
		cmd.Stderr = os.Stderr
		pipe, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(pipe)
		for left := 30 + rand.IntN(600); lines.Scan(); {
			var n int
			var position int64
			if k, _ := fmt.Sscanf(lines.Text(), "ack %d %d", &n, &position); k != 2 {
				continue
			}
			if old, ok := acked[n]; ok {
				require.Equal(t, old, position, "key %d", n)
			}
			acked[n] = position
			last = max(last, n)
			if left--; left == 0 {
				require.NoError(t, cmd.Process.Kill())
			}
		}
		require.NoError(t, lines.Err())
		_ = cmd.Wait() // it was killed
	}
	require.GreaterOrEqual(t, len(acked), *dedupeKills*5)
	s := open(t, dir, dedupeKillOptions()...)
	seen := map[string]int64{}
	for at := int64(0); at < lengthOf(t, s, "t"); {
		b, err := s.Read(ctx, message.Queue{Topic: "t"}, at, message.Limit{}, nil)
		require.NoError(t, err)
		for i := range b.Records {
			key := property(&b.Records[i], message.PropIdempotency)
			require.NotContains(t, seen, key)
			seen[key] = b.Records[i].Position()
		}
		at = b.Next
	}
	for n, position := range acked {
		require.Equal(t, position, seen[fmt.Sprint("key-", n)], "key %d", n)
	}
}
