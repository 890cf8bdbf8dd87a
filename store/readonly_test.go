package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

func TestOpenReadOnly(t *testing.T) {
	_, err := store.OpenReadOnly(filepath.Join(t.TempDir(), "missing"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = store.OpenReadOnly(t.TempDir())
	require.ErrorIs(t, err, store.ErrNotFound)

	dir, at := makeSound(t)
	before := dirHash(t, dir)
	s := must(store.OpenReadOnly(dir))
	require.True(t, s.Stats().Recovery.Clean)
	q := message.Queue{Topic: "t"}
	require.Len(t, readAll(t, s, q), len(at))
	require.Len(t, s.Topics(), 1)
	r := must(s.Get(ctx, at[7].Position))
	require.EqualValues(t, 7, r.Offset())
	for name, err := range map[string]error{
		"Put":         second(s.Put(ctx, &message.Message{Topic: "t"})),
		"PutBatch":    second(s.PutBatch(ctx, []*message.Message{{Topic: "t"}})),
		"PutAsync":    second(s.PutAsync(ctx, &message.Message{Topic: "t"}).Wait(ctx)),
		"Sync":        s.Sync(ctx),
		"Commit":      s.Commit(ctx, "g", map[message.Queue]int64{q: 0}),
		"Committed":   third(s.Committed(ctx, "g", q)),
		"Reset":       s.ResetOffsets(ctx, "g", "t", message.First()),
		"CreateTopic": s.CreateTopic(ctx, store.Topic{Name: "u"}),
		"UpdateTopic": s.UpdateTopic(ctx, store.Topic{Name: "t"}),
		"DeleteTopic": s.DeleteTopic(ctx, "t"),
	} {
		require.ErrorIs(t, err, store.ErrReadOnly, name)
	}
	checkOK(t, s)
	require.NoError(t, s.Close())
	require.Equal(t, before, dirHash(t, dir), "not a byte was written")
}

// A torn tail is cut in memory only; what a kill left behind the last checkpoint
// is replayed in memory only.
func TestOpenReadOnlyAfterKill(t *testing.T) {
	dir := t.TempDir()
	s := must(store.Open(dir))
	q := message.Queue{Topic: "t"}
	for i := range 20 {
		put(t, s, &message.Message{Topic: "t", Body: fmt.Append(nil, i)})
	}
	last := put(t, s, &message.Message{Topic: "t"})
	require.NoError(t, s.Abandon())
	segment := filepath.Join(dir, "commitlog", "00000000000000000000")
	f := must(os.OpenFile(segment, os.O_RDWR, 0))
	must(f.WriteAt([]byte("half a record"), last.Position+200))
	require.NoError(t, f.Close())

	before := dirHash(t, dir)
	ro := must(store.OpenReadOnly(dir))
	rec := ro.Stats().Recovery
	require.False(t, rec.Clean)
	require.Positive(t, rec.CutBytes)
	require.Empty(t, rec.Aside)
	require.Len(t, readAll(t, ro, q), 21)
	require.NoError(t, ro.Close())
	require.Equal(t, before, dirHash(t, dir))

	s = open(t, dir)
	rec = s.Stats().Recovery
	require.Positive(t, rec.CutBytes)
	require.FileExists(t, filepath.Join(dir, "ember", "aside", filepath.Base(rec.Aside)))
	require.Len(t, readAll(t, s, q), 21)
	checkOK(t, s)
}

// Everything outside the damage is readable, and what lies in it gives its error,
// whether the queue's entries were saved or have to be found in the log.
func TestOpenReadOnlyBesideDamage(t *testing.T) {
	sound, at := makeSound(t)
	q := message.Queue{Topic: "t"}
	for _, c := range []struct {
		name, gone string
		bad        []int64
	}{
		{"queues saved", "", []int64{0, 20, 21, 100, 179}},
		{"image gone", "ember/queues", []int64{20, 21, 100}}, // nobody knows that there was anything in front or behind
		{"files gone", "consumequeue/t", []int64{0, 20, 21, 100, 159}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &damaged{t: t, dir: t.TempDir(), at: at}
			require.NoError(t, os.CopyFS(d.dir, os.DirFS(sound)))
			if c.gone != "" {
				require.NoError(t, os.RemoveAll(d.path(c.gone)))
			}
			bad := map[int64]bool{}
			for _, i := range c.bad {
				bad[i] = true
				name, off := d.record(int(i))
				d.flip(name, off+300)
			}
			before := dirHash(t, d.dir)
			if c.gone == "ember/queues" {
				_, err := store.Open(d.dir)
				require.ErrorIs(t, err, store.ErrCorrupt)
				require.Equal(t, before, dirHash(t, d.dir), "an Open that finds damage changes nothing")
			}
			s := must(store.OpenReadOnly(d.dir))
			var got []int64
			failed := map[int64]bool{}
			for from := int64(0); from < int64(len(at)); {
				b, err := s.Read(ctx, q, from, message.Limit{Count: 1000}, nil)
				for i := range b.Records {
					got = append(got, b.Records[i].Offset())
				}
				if err != nil {
					require.ErrorIs(t, err, store.ErrCorrupt)
					require.True(t, bad[b.Next], b.Next)
					failed[b.Next] = true
					b.Next++
				}
				from = b.Next
			}
			require.Len(t, got, len(at)-len(bad))
			require.Equal(t, bad, failed, "what is lost is not passed silently")
			for _, o := range got {
				require.False(t, bad[o])
			}
			r := must(s.Check(ctx))
			require.False(t, r.OK())
			require.NoError(t, s.Close())
			require.Equal(t, before, dirHash(t, d.dir))
		})
	}
}

// Beside a live writer, in this process and in another one.
func TestOpenReadOnlyBesideWriter(t *testing.T) {
	q := message.Queue{Topic: "t"}
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 50 {
		put(t, s, &message.Message{Topic: "t", Body: fmt.Append(nil, i)})
	}
	for range 3 {
		ro := must(store.OpenReadOnly(dir))
		rs := readAll(t, ro, q)
		require.Equal(t, int64(len(rs)), must3(swap(s.Bounds(q))))
		put(t, s, &message.Message{Topic: "t"})
		require.NoError(t, ro.Close())
		_, err := store.Open(dir)
		require.ErrorIs(t, err, store.ErrLocked, "the reader does not take the writer's lock along")
	}
	if s := os.Getenv("EMBER_READER"); s != "" {
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestReaderProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "EMBER_READER="+dir)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "read 53, locked by "+fmt.Sprint(os.Getpid()))
	checkOK(t, s)
}

// lockless is a file system on which nobody may take a lock.
type lockless struct{ fs.FS }

func (lockless) Lock(string) (io.Closer, error) { return nil, errors.New("a lock was taken") }

// A reader takes no lock, not even for a moment: a writer that opens just then
// must not be told that the directory is in use.
func TestOpenReadOnlyTakesNoLock(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, &message.Message{Topic: "t"})
	e := env.Real()
	e.Open = func(dir string, create bool) (fs.FS, error) {
		root, err := env.Real().Open(dir, create)
		return lockless{root}, err
	}
	_, err := store.Open(dir, store.WithEnvironment(e))
	require.ErrorContains(t, err, "a lock was taken")
	ro := must(store.OpenReadOnly(dir, store.WithEnvironment(e)))
	require.Len(t, readAll(t, ro, message.Queue{Topic: "t"}), 1)
	require.NoError(t, ro.Close())
}

// TestReaderProcess is the other process of the tests here.
func TestReaderProcess(t *testing.T) {
	dir := os.Getenv("EMBER_READER")
	if dir == "" {
		t.Skip("only as a child")
	}
	if hold := os.Getenv("EMBER_HOLD"); hold != "" {
		s := open(t, dir)
		put(t, s, &message.Message{Topic: "t"})
		fmt.Printf("holding %d\n", os.Getpid())
		must(bufio.NewReader(os.Stdin).ReadString('\n'))
		return
	}
	ro := must(store.OpenReadOnly(dir))
	n := len(readAll(t, ro, message.Queue{Topic: "t"}))
	require.NoError(t, ro.Close())
	_, err := store.Open(dir)
	pid := 0
	as(func(e *store.LockedError) bool { pid = e.PID; return true })(err)
	fmt.Printf("read %d, locked by %d\n", n, pid)
}

// A writer in another process: this one may read, and is told who has the lock.
func TestSecondOpenerOtherProcess(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestReaderProcess$")
	cmd.Env = append(os.Environ(), "EMBER_READER="+dir, "EMBER_HOLD=1")
	in := must(cmd.StdinPipe())
	out := bufio.NewReader(must(cmd.StdoutPipe()))
	require.NoError(t, cmd.Start())
	line := must(out.ReadString('\n'))
	_, err := store.Open(dir)
	require.ErrorIs(t, err, store.ErrLocked)
	require.True(t, as(func(e *store.LockedError) bool { return fmt.Sprintf("holding %d\n", e.PID) == line })(err), "%v, %s", err, line)
	require.Contains(t, err.Error(), strings.TrimSpace(strings.TrimPrefix(line, "holding ")))
	ro := must(store.OpenReadOnly(dir))
	require.Len(t, readAll(t, ro, message.Queue{Topic: "t"}), 1)
	require.NoError(t, ro.Close())
	must(in.Write([]byte("\n")))
	require.NoError(t, cmd.Wait())
	s := open(t, dir)
	require.True(t, s.Stats().Recovery.Clean)
}

func swap(a, b int64, err error) (int64, int64, error) { return b, a, err }

// Log, queues, index and meta on other disks, in folders with spaces and letters.
func TestFolders(t *testing.T) {
	dir, other := filepath.Join(t.TempDir(), "my störe"), filepath.Join(t.TempDir(), "other disk 二")
	folders := store.Folders{
		CommitLog: filepath.Join(other, "log"), ConsumeQueue: filepath.Join(other, "queues"),
		Index: filepath.Join(other, "index"), Meta: filepath.Join(other, "meta"),
	}
	with := store.WithFolders(folders)
	s := must(store.Open(dir, with))
	q := message.Queue{Topic: "t"}
	for range 10 {
		put(t, s, &message.Message{Topic: "t", Keys: []string{"k"}})
	}
	require.NoError(t, s.Commit(ctx, "g", map[message.Queue]int64{q: 4}))
	require.NoError(t, s.Close())
	for _, name := range []string{"commitlog", "consumequeue", "index", "ember/meta"} {
		require.NoDirExists(t, filepath.Join(dir, name))
	}
	require.FileExists(t, filepath.Join(folders.CommitLog, "00000000000000000000"))
	require.FileExists(t, filepath.Join(folders.ConsumeQueue, "t/0/00000000000000000000"))

	ro := must(store.OpenReadOnly(dir, with))
	require.Len(t, readAll(t, ro, q), 10)
	require.NoError(t, ro.Close())

	_, err := store.Open(dir)
	require.True(t, missing("commitlog")(err), "%v", err)
	for name, at := range map[string]string{"commitlog": folders.CommitLog, "ember/meta": folders.Meta} {
		require.NoError(t, os.Rename(at, at+".away"))
		for _, mounted := range []bool{false, true} {
			if mounted {
				require.NoError(t, os.Mkdir(at, 0o700)) // the empty mount point
			}
			_, err = store.Open(dir, with)
			require.True(t, missing(name)(err), "%v", err)
			require.Contains(t, err.Error(), at)
		}
		require.NoError(t, os.Remove(at), "nothing was made in it")
		require.NoError(t, os.Rename(at+".away", at))
	}
	for _, at := range []string{folders.ConsumeQueue, folders.Index} {
		require.NoError(t, os.RemoveAll(at))
	}
	s = open(t, dir, with)
	require.Contains(t, s.Stats().Recovery.Rebuilt, "consumequeue")
	require.Len(t, readAll(t, s, q), 10)
	offset, _, err := s.Committed(ctx, "g", q)
	require.NoError(t, err)
	require.EqualValues(t, 4, offset)
	checkOK(t, s)
}

// A log that was cut by somebody else is refused, unless the caller says that it
// is the truth.
func TestAcceptLog(t *testing.T) {
	dir, at := makeSound(t)
	d := &damaged{t: t, dir: dir, at: at}
	require.NoError(t, os.Remove(d.path("commitlog/00000000000000131072")))
	_, err := store.Open(dir)
	require.ErrorIs(t, err, store.ErrCorrupt)
	s := open(t, dir, store.WithAcceptLog())
	q := message.Queue{Topic: "t"}
	left := readAll(t, s, q)
	require.Positive(t, len(left))
	require.Less(t, len(left), len(at))
	rec := s.Stats().Recovery
	require.Contains(t, rec.Rebuilt, "consumequeue")
	offset, _, err := s.Committed(ctx, "g", q)
	require.NoError(t, err)
	require.LessOrEqual(t, offset, int64(len(left)))
	r := put(t, s, &message.Message{Topic: "t"})
	require.EqualValues(t, len(left), r.Offset)
	checkOK(t, s)
}

func third[A, B any](_ A, _ B, err error) error { return err }
