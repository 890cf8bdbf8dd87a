package store_test

import (
	"bufio"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

var killCycles = flag.Int("kill.cycles", 24, "processes that TestKill kills")

// killRole, in the environment, makes the test binary a process to be killed: it
// holds the store's directory and the durability.
const killRole = "EMBERMQ_KILL_CHILD"

const killProducers = 4

// killOptions make segments roll and checkpoints come while the child lives. How
// full the machine's own disk is must not let retention work.
func killOptions(d message.Durability) []store.Option {
	return []store.Option{
		store.WithDurability(d), store.WithSegmentSize(64 << 10), store.WithMaxUnsynced(32 << 10), store.WithQueueFileSize(2000),
		store.WithTopicQueues(killProducers), store.WithCheckpoint(5*time.Millisecond, 16<<10),
		store.WithWatermarks(store.Watermarks{Clean: 100, Force: 100, Full: 100}),
	}
}

// killBody is message n of a producer: the number, and a length that follows.
func killBody(n uint64) []byte {
	b := make([]byte, 8+n%300)
	binary.BigEndian.PutUint64(b, n)
	for i := 8; i < len(b); i++ {
		b[i] = byte(n)
	}
	return b
}

// TestKillChild is the process to be killed. It goes on from what its queues
// hold and prints "producer number offset" for each message that was
// acknowledged.
func TestKillChild(t *testing.T) {
	role := os.Getenv(killRole)
	if role == "" {
		t.Skip("only for TestKill")
	}
	d, dir, _ := strings.Cut(role, " ")
	n, err := strconv.Atoi(d)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir, killOptions(message.Durability(n))...)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreateTopic(ctx, store.Topic{Name: "kill"}); err != nil && len(s.Topics()) == 0 {
		t.Fatal(err)
	}
	out := os.Stdout
	var wg sync.WaitGroup
	for p := range killProducers {
		wg.Go(func() {
			q := message.Queue{Topic: "kill", ID: int32(p)}
			_, next, err := s.Bounds(q)
			if err != nil {
				panic(err)
			}
			for i := uint64(next); ; i++ {
				r, err := s.Put(ctx, &message.Message{Topic: "kill", QueueID: int32(p), Body: killBody(i)})
				if err != nil {
					panic(err)
				}
				// One short write to a pipe is never torn.
				fmt.Fprintf(out, "ack %d %d %d\n", p, i, r.Offset)
				if i%16 == 0 {
					if err := s.Commit(ctx, "readers", map[message.Queue]int64{q: r.Offset + 1}); err != nil {
						panic(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

// TestKill kills processes that put messages into one store again and again, and
// demands after each that everything they reported is there, in both modes.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("needs processes")
	}
	begun := time.Now()
	var acks, kills atomic.Int64
	t.Run("all", func(t *testing.T) { // ends when both have
		for _, d := range []message.Durability{message.OnDisk, message.InCache} {
			t.Run(d.String(), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				acked := [killProducers]int64{}
				for cycle := range (*killCycles + 1) / 2 {
					acks.Add(int64(killOne(t, dir, d, &acked, cycle)))
					kills.Add(1)
					if cycle%2 == 0 { // else the next child finds the directory as it was left
						lookAfterKill(t, dir, d, &acked)
					}
				}
				lookAfterKill(t, dir, d, &acked)
			})
		}
	})
	took := time.Since(begun)
	t.Logf("%d kills, %.1f a second, %d messages acknowledged, none lost", kills.Load(), float64(kills.Load())/took.Seconds(), acks.Load())
}

// killOne starts a child and kills it after some answers.
func killOne(t *testing.T, dir string, d message.Durability, acked *[killProducers]int64, cycle int) (acks int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
	cmd.Env = append(os.Environ(), killRole+"="+strconv.Itoa(int(d))+" "+dir)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	// Some die at once, in Open even; others after many messages.
	until := rand.IntN(400) * (cycle % 4)
	lines := bufio.NewReader(pipe)
	killed := until == 0
	if killed {
		time.AfterFunc(time.Duration(rand.IntN(20_000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
	}
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
		var p int
		var n, offset int64
		if k, _ := fmt.Sscanf(line, "ack %d %d %d\n", &p, &n, &offset); k != 3 {
			continue
		}
		require.Equal(t, n, offset, "producer %d: a number got another offset", p)
		acked[p] = max(acked[p], n+1)
		if acks++; acks >= until && !killed {
			killed = true
			require.NoError(t, cmd.Process.Kill())
		}
	}
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	require.EqualValues(t, -1, exit.ExitCode(), "the child must have been killed")
	return acks
}

func lookAfterKill(t *testing.T, dir string, d message.Durability, acked *[killProducers]int64) {
	t.Helper()
	s, err := store.Open(dir, killOptions(d)...)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	if len(s.Topics()) == 0 {
		require.Zero(t, *acked)
		return
	}
	for p := range killProducers {
		q := message.Queue{Topic: "kill", ID: int32(p)}
		start, end, err := s.Bounds(q)
		require.NoError(t, err)
		require.Zero(t, start)
		require.GreaterOrEqual(t, end, acked[p], "%v: acknowledged messages of producer %d are lost", d, p)
		for at := int64(0); at < end; {
			b, err := s.Read(ctx, q, at, message.Limit{Count: 1000}, nil)
			require.NoError(t, err)
			require.NotEmpty(t, b.Records)
			for i := range b.Records {
				require.Equal(t, killBody(uint64(at)+uint64(i)), b.Records[i].Body())
			}
			at = b.Next
		}
		offset, _, err := s.Committed(ctx, "readers", q)
		require.NoError(t, err)
		require.LessOrEqual(t, offset, end)
		acked[p] = end // what was found once must stay
	}
	checkOK(t, s)
}

// TestCheckKeepsNothingLent walks over segments whose memory goes as the walk
// goes on. A key that still pointed there would end the process.
func TestCheckKeepsNothingLent(t *testing.T) {
	dir := t.TempDir()
	opts := []store.Option{store.WithSegmentSize(4 << 10), store.WithMaxUnsynced(4 << 10)}
	s, err := store.Open(dir, opts...)
	require.NoError(t, err)
	for i := range 2000 {
		topic := "late"
		if i < 40 {
			topic = "early-" + strconv.Itoa(i%4)
		}
		put(t, s, &message.Message{Topic: topic, Body: killBody(uint64(i)), Durability: message.InCache})
	}
	require.NoError(t, s.Close())
	s = open(t, dir, opts...)
	require.Greater(t, len(s.Log().Segments()), 100)
	checkOK(t, s)
}
