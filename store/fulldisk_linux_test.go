package store_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// mount makes a file system of a few MiB, or skips.
func mount(t *testing.T, kind string, mib int) (dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("LOUD SKIP: mounting needs root; a full disk is only simulated here")
	}
	dir = t.TempDir()
	switch kind {
	case "tmpfs":
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
			t.Skip("LOUD SKIP: cannot mount a tmpfs: ", err)
		}
	case "ext4":
		image := filepath.Join(t.TempDir(), "image")
		require.NoError(t, os.WriteFile(image, nil, 0o600))
		require.NoError(t, os.Truncate(image, int64(mib)<<20))
		for _, c := range [][]string{{"mkfs.ext4", "-q", "-m", "0", image}, {"mount", "-o", "loop", image, dir}} {
			if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
				t.Skip("LOUD SKIP: ", c[0], ": ", err, ": ", string(out))
			}
		}
	}
	// Detached: a failed test may hold files.
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// A real file system runs full, once because of the store itself and once because
// of somebody else: puts fail at once, reads, commits and the store's own records
// go on, and puts work again within a second of room, without a reopen.
func TestFullDiskReal(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4"} {
		for _, durability := range []message.Durability{message.OnDisk, message.InCache} {
			t.Run(fmt.Sprint(kind, " ", durability), func(t *testing.T) {
				dir := mount(t, kind, 96)
				s := must(store.Open(filepath.Join(dir, "db"), store.WithDurability(durability), store.WithSegmentSize(4<<20), store.WithRetention(0),
					store.WithWatermarks(store.Watermarks{Clean: 100, Force: 100, Full: 100})))
				q := message.Queue{Topic: "t"}
				put(t, s, &message.Message{Topic: "t"})
				body := make([]byte, 100<<10)
				fill := func() (n int64) {
					for {
						began := time.Now()
						if _, err := s.Put(ctx, &message.Message{Topic: "t", Body: body}); err != nil {
							require.ErrorIs(t, err, store.ErrDiskFull)
							require.Less(t, time.Since(began), 5*time.Second, "at once, not after a wait for room")
							return n
						}
						n++
					}
				}
				// Somebody else takes most of the disk.
				other := filepath.Join(dir, "other")
				f := must(os.Create(other))
				for i := range 56 {
					must(f.WriteAt(make([]byte, 1<<20), int64(i)<<20))
				}
				require.NoError(t, f.Close())
				n := fill() + 1
				require.NoError(t, s.Stats().Poisoned)
				require.Len(t, readAll(t, s, q), int(n))
				require.NoError(t, s.Commit(ctx, "g", map[message.Queue]int64{q: n}))
				require.NoError(t, s.Sync(ctx))
				require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "u"}))
				require.NoError(t, s.DeleteTopic(ctx, "u"), "the reserve takes the store's own records")

				require.NoError(t, os.Remove(other))
				began := time.Now()
				for {
					if _, err := s.Put(ctx, &message.Message{Topic: "t", Body: body}); err == nil {
						break
					} else {
						require.ErrorIs(t, err, store.ErrDiskFull)
					}
					time.Sleep(time.Millisecond)
				}
				took := time.Since(began)
				t.Logf("%d messages; puts again %v after there was room", n, took)
				require.Less(t, took, 1200*time.Millisecond)

				room := filepath.Join(dir, "room")
				require.NoError(t, os.WriteFile(room, make([]byte, 1<<20), 0o600))
				fill() // now by itself
				end := must3(swap(s.Bounds(q)))
				require.NoError(t, s.Stats().Poisoned)
				checkOK(t, s)
				// There may be no room to save the views; then the next Open does it.
				clean := true
				if err := s.Close(); err != nil {
					require.ErrorIs(t, err, store.ErrDiskFull)
					clean = false
				}
				require.NoError(t, os.Remove(room))
				s = must(store.Open(filepath.Join(dir, "db"), store.WithDurability(durability)))
				require.Equal(t, clean, s.Stats().Recovery.Clean)
				require.Equal(t, end, must3(swap(s.Bounds(q))))
				checkOK(t, s)
				require.NoError(t, s.Close())
			})
		}
	}
}

var fillCycles = flag.Int("fill.cycles", 3, "how often TestI07FillAndFree fills the disk and frees it")

// One process fills a real file system and frees it again, many times, without
// opening anew. Each time puts fail at once, reads and commits work, and puts are back within a
// second of room; in the end nothing is lost and no file is left over.
func TestI07FillAndFree(t *testing.T) {
	dir := mount(t, "tmpfs", 96)
	s := must(store.Open(filepath.Join(dir, "db"), store.WithSegmentSize(4<<20), store.WithRetention(0), store.WithRetentionBytes(16<<20),
		store.WithForceExpiry(), store.WithTopicQueues(1), store.WithWatermarks(store.Watermarks{Clean: 100, Force: 100, Full: 100})))
	q := message.Queue{Topic: "t"}
	end := put(t, s, &message.Message{Topic: "t"}).Offset + 1
	other := filepath.Join(dir, "other")
	files, slowest := 0, time.Duration(0)
	for cycle := range *fillCycles {
		full(t, other)
		body := make([]byte, 64<<10)
		for {
			began := time.Now()
			r, err := s.Put(ctx, &message.Message{Topic: "t", Body: body})
			if err != nil {
				require.ErrorIs(t, err, store.ErrDiskFull)
				require.Less(t, time.Since(began), 5*time.Second, "at once")
				break
			}
			require.Equal(t, end, r.Offset)
			end++
		}
		require.NoError(t, s.Stats().Poisoned)
		require.Len(t, read(t, s, q, end-1, nil), 1)
		require.NoError(t, s.Commit(ctx, "g", map[message.Queue]int64{q: end}))
		require.NoError(t, s.Sync(ctx))

		require.NoError(t, os.Remove(other))
		began := time.Now()
		for {
			r, err := s.Put(ctx, &message.Message{Topic: "t", Body: []byte("there is room")})
			if err == nil {
				require.Equal(t, end, r.Offset)
				end++
				break
			}
			require.ErrorIs(t, err, store.ErrDiskFull)
			time.Sleep(time.Millisecond)
		}
		slowest = max(slowest, time.Since(began))
		require.Less(t, slowest, 1200*time.Millisecond, "cycle %d", cycle)
		require.NoError(t, s.Retain())
		checkOK(t, s)
		if n := len(readTree(t, filepath.Join(dir, "db"))); cycle < 10 {
			files = max(files, n)
		} else {
			require.LessOrEqual(t, n, files+6, "files are left over")
		}
	}
	t.Logf("%d cycles; puts again %v after there was room, at worst; %d files", *fillCycles, slowest, len(readTree(t, filepath.Join(dir, "db"))))
	require.NoError(t, s.Close())
	s = must(store.Open(filepath.Join(dir, "db")))
	require.Equal(t, end, must3(swap(s.Bounds(q))))
	checkOK(t, s)
	require.NoError(t, s.Close())
}

// full writes a file until there is no room at all.
func full(t *testing.T, name string) {
	t.Helper()
	f := must(os.Create(name))
	b := make([]byte, 256<<10)
	for n := len(b); n >= 4096; {
		if _, err := f.Write(b[:n]); err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
			n /= 2
		}
	}
	require.NoError(t, f.Close())
}
