package store_test

import (
	"bytes"
	"fmt"
	iofs "io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// The rows of docs/recovery.md, each with its test. A machine is a simulated
// one; what no crash brings about is written into its files.
type machine struct {
	t     testing.TB
	sim   *crash.Sim
	root  fs.FS
	clock *clock.Manual
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	sim := crash.New(1)
	return &machine{t, sim, sim.FS(), clock.NewManual(time.UnixMilli(1_700_000_000_000))}
}

func (m *machine) tryOpen(opts ...store.Option) (*store.Store, error) {
	e := env.Env{Open: func(string, bool) (fs.FS, error) { return m.root, nil }, Clock: m.clock, Manual: true, PID: 7}
	opts = append([]store.Option{store.WithSegmentSize(16 << 10), store.WithMaxUnsynced(4096), store.WithQueueFileSize(200), store.WithTopicQueues(2)}, opts...)
	return store.Open("machine", append(opts, store.WithEnvironment(e))...)
}

func (m *machine) open(opts ...store.Option) *store.Store {
	m.t.Helper()
	s, err := m.tryOpen(opts...)
	require.NoError(m.t, err)
	m.t.Cleanup(func() { _ = s.Abandon() })
	return s
}

// kill is what the next process finds. The store goes on with the old machine,
// so it is dropped first.
func (m *machine) kill(s *store.Store) {
	m.t.Helper()
	next := m.sim.Kill()
	require.NoError(m.t, s.Abandon())
	m.sim, m.root = next, next.FS()
}

// read returns a file's bytes; edit changes them in place.
func (m *machine) read(name string) []byte {
	m.t.Helper()
	b, err := fs.Read(m.root, name)
	require.NoError(m.t, err)
	return b
}

func (m *machine) edit(name string, f func(b []byte)) {
	m.t.Helper()
	b := m.read(name)
	f(b)
	m.write(name, b)
}

func (m *machine) write(name string, b []byte) {
	m.t.Helper()
	f, err := m.root.Open(name, fs.Create)
	require.NoError(m.t, err)
	require.NoError(m.t, f.Truncate(int64(len(b))))
	_, err = f.WriteAt(b, 0)
	require.NoError(m.t, err)
	require.NoError(m.t, f.Sync())
	require.NoError(m.t, f.Close())
}

const firstSegment = "commitlog/00000000000000000000"

// flip damages the record at a position of the first segment.
func (m *machine) flip(position int64) {
	m.t.Helper()
	m.edit(firstSegment, func(b []byte) { b[position+90] ^= 1 })
}

// files is everything on the disk.
func (m *machine) files() map[string]string {
	m.t.Helper()
	all := map[string]string{}
	var walk func(dir string)
	walk = func(dir string) {
		list, err := m.root.List(dir)
		require.NoError(m.t, err)
		for _, e := range list {
			name := strings.TrimPrefix(dir+"/"+e.Name, "./")
			if e.Dir {
				walk(name)
			} else {
				all[name] = string(m.read(name))
			}
		}
	}
	walk(".")
	return all
}

// corrupt demands that Open refuses the machine and leaves it as it is.
func (m *machine) corrupt(opts ...store.Option) *store.CorruptError {
	m.t.Helper()
	before := m.files()
	s, err := m.tryOpen(opts...)
	require.Nil(m.t, s)
	var c *store.CorruptError
	require.ErrorAs(m.t, err, &c)
	require.Equal(m.t, before, m.files(), "an Open that fails changes nothing")
	return c
}

var orders = message.Queue{Topic: "orders"}

// fillOrders puts messages into queue 0 of orders.
func fillOrders(t testing.TB, s *store.Store, d message.Durability, bodies ...string) (rs []message.Receipt) {
	t.Helper()
	for _, b := range bodies {
		rs = append(rs, put(t, s, &message.Message{Topic: "orders", Body: []byte(b), Durability: d}))
	}
	return rs
}

func numbered(from, to int) (bodies []string) {
	for i := from; i <= to; i++ {
		bodies = append(bodies, fmt.Sprintf("%04d%s", i, strings.Repeat(".", 200)))
	}
	return bodies
}

// holds demands that queue 0 of orders has these messages from its start on.
func holds(t testing.TB, s *store.Store, bodies ...string) {
	t.Helper()
	start, end, err := s.Bounds(orders)
	require.NoError(t, err)
	require.EqualValues(t, len(bodies), end-start)
	got := []string{}
	for _, r := range read(t, s, orders, start, nil) {
		got = append(got, string(r.Body()))
	}
	require.Equal(t, append([]string{}, bodies...), got)
	checkOK(t, s)
}

func TestRecoveryClean(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	fillOrders(t, s, message.OnDisk, "a", "b")
	require.NoError(t, s.Close())
	s = m.open()
	rec := s.Stats().Recovery
	require.True(t, rec.Clean)
	require.Zero(t, rec.Rewritten+rec.Replayed+rec.CutBytes)
	require.Empty(t, rec.Rebuilt)
	holds(t, s, "a", "b")
}

func TestRecoveryKill(t *testing.T) {
	m := newMachine(t)
	s := m.open(store.WithDurability(message.InCache))
	fillOrders(t, s, message.InCache, "a", "b")
	require.NoError(t, s.Sync(ctx))
	rs := fillOrders(t, s, message.InCache, "c", "d")
	m.kill(s)
	s = m.open(store.WithDurability(message.InCache))
	rec := s.Stats().Recovery
	require.False(t, rec.Clean)
	require.Equal(t, rec.End-rs[0].Position, rec.Rewritten, "what lies behind the watermark is written again")
	require.Zero(t, rec.CutBytes)
	holds(t, s, "a", "b", "c", "d")
}

// halfSynced is a killed InCache store with three messages in front of the
// watermark and three behind it.
func halfSynced(t testing.TB) (*machine, []message.Receipt) {
	t.Helper()
	m := newMachine(t)
	s := m.open(store.WithDurability(message.InCache))
	rs := fillOrders(t, s, message.InCache, numbered(1, 3)...)
	require.NoError(t, s.Sync(ctx))
	rs = append(rs, fillOrders(t, s, message.InCache, numbered(4, 6)...)...)
	m.kill(s)
	return m, rs
}

func TestRecoveryTornTail(t *testing.T) {
	m, rs := halfSynced(t)
	tail := m.read(firstSegment)[rs[5].Position:]
	tail[90] ^= 1
	m.flip(rs[5].Position)
	s := m.open(store.WithDurability(message.InCache))
	rec := s.Stats().Recovery
	require.Positive(t, rec.CutBytes)
	require.Equal(t, rs[5].Position, rec.End)
	require.Contains(t, string(m.read("ember/"+rec.Aside)), string(bytes.TrimRight(tail, "\x00")))
	require.Empty(t, bytes.Trim(m.read(firstSegment)[rec.End:], "\x00"))
	holds(t, s, numbered(1, 5)...)
	fillOrders(t, s, message.OnDisk, "next")
	holds(t, s, append(numbered(1, 5), "next")...)
}

func TestRecoveryHalfGroup(t *testing.T) {
	m := newMachine(t)
	s := m.open(store.WithDurability(message.InCache))
	fillOrders(t, s, message.OnDisk, "a")
	rs, err := s.PutBatch(ctx, []*message.Message{{Topic: "orders", Body: []byte("b")}, {Topic: "orders", QueueID: 1}, {Topic: "orders", Body: []byte("c")}})
	require.NoError(t, err)
	m.kill(s)
	m.flip(rs[2].Position)
	s = m.open(store.WithDurability(message.InCache))
	holds(t, s, "a")
	_, end, err := s.Bounds(message.Queue{Topic: "orders", ID: 1})
	require.NoError(t, err)
	require.Zero(t, end)
}

func TestRecoveryStaleTail(t *testing.T) {
	m, rs := halfSynced(t)
	size := rs[1].Position - rs[0].Position
	end := rs[5].Position + size
	m.edit(firstSegment, func(b []byte) { copy(b[end+512:], b[rs[0].Position:][:size]) })
	s := m.open(store.WithDurability(message.InCache))
	require.Positive(t, s.Stats().Recovery.CutBytes)
	require.Empty(t, bytes.Trim(m.read(firstSegment)[end:], "\x00"))
	holds(t, s, numbered(1, 6)...)
}

func TestRecoveryRotBelowSynced(t *testing.T) {
	m, rs := halfSynced(t)
	m.flip(rs[1].Position)
	require.Equal(t, rs[1].Position, m.corrupt(store.WithDurability(message.InCache)).Offset)
}

func TestRecoveryRotBehindW(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	fillOrders(t, s, message.OnDisk, "a")
	old := m.read("ember/synced") // a power cut may bring it back
	rs := fillOrders(t, s, message.OnDisk, numbered(1, 20)...)
	m.kill(s)
	m.write("ember/synced", old)
	m.flip(rs[0].Position)
	require.Equal(t, rs[0].Position, m.corrupt().Offset)
}

func TestRecoveryRotAfterClose(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	rs := fillOrders(t, s, message.OnDisk, numbered(1, 3)...)
	require.NoError(t, s.Close())
	good := m.read(firstSegment)
	m.edit(firstSegment, func(b []byte) { clear(b[rs[2].Position:]) })
	m.corrupt()

	// Rot inside a record is found when it is read: an Open after a clean end reads
	// nothing but the end.
	m.write(firstSegment, good)
	m.flip(rs[1].Position)
	s = m.open()
	b, err := s.Read(ctx, orders, 0, message.Limit{}, nil)
	require.NoError(t, err)
	require.Len(t, b.Records, 1)
	_, err = s.Read(ctx, orders, 1, message.Limit{}, nil)
	var c *store.CorruptError
	require.ErrorAs(t, err, &c)
	require.Equal(t, rs[1].Position, c.Offset)
	require.Len(t, read(t, s, orders, 2, nil), 1)
	rep, err := s.Check(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, rep.Damages)
}

// shortened is a store whose last two messages another program has taken out.
func shortened(t testing.TB, checkpoint bool) *machine {
	t.Helper()
	m := newMachine(t)
	s := m.open()
	rs := fillOrders(t, s, message.OnDisk, numbered(1, 5)...)
	require.NoError(t, s.Commit(ctx, "billing", map[message.Queue]int64{orders: 5}))
	require.NoError(t, s.Sync(ctx))
	if checkpoint {
		require.NoError(t, s.Checkpoint(ctx))
	}
	m.kill(s)
	m.edit(firstSegment, func(b []byte) { clear(b[rs[3].Position:]) })
	return m
}

func TestRecoveryShorterLog(t *testing.T) {
	m := shortened(t, false)
	m.corrupt()
	s := m.open(store.WithAcceptLog())
	holds(t, s, numbered(1, 3)...)
	require.NoError(t, s.Close())
	s = m.open()
	require.True(t, s.Stats().Recovery.Clean)
	holds(t, s, numbered(1, 3)...)
}

// otherLog is a store whose last message another program has replaced.
func otherLog(t testing.TB, checkpoint bool) *machine {
	t.Helper()
	m := newMachine(t)
	s := m.open()
	rs := fillOrders(t, s, message.OnDisk, "a", "b")
	if checkpoint {
		require.NoError(t, s.Checkpoint(ctx))
	}
	m.kill(s)
	var d message.Draft
	require.NoError(t, d.Encode(&message.Message{Topic: "orders", Body: []byte("z")}, orders, nil))
	d.Stamp(rs[1].Position, rs[1].Offset, rs[1].StoredAt.UnixMilli())
	m.edit(firstSegment, func(b []byte) { copy(b[rs[1].Position:], d.Bytes()) })
	return m
}

func TestRecoveryOtherLog(t *testing.T) {
	m := otherLog(t, false)
	m.corrupt()
	holds(t, m.open(store.WithAcceptLog()), "a", "z")
}

func TestRecoveryNoWatermark(t *testing.T) {
	m, _ := halfSynced(t)
	good := m.read("ember/synced")
	m.write("ember/synced", make([]byte, len(good)))
	require.Contains(t, m.corrupt(store.WithDurability(message.InCache)).Path, "synced")
	holds(t, m.open(store.WithDurability(message.InCache), store.WithAcceptLog()), numbered(1, 6)...)

	m, _ = halfSynced(t)
	require.NoError(t, m.root.Remove("ember/synced"))
	require.Contains(t, m.corrupt(store.WithDurability(message.InCache)).Path, "synced")
	holds(t, m.open(store.WithDurability(message.InCache), store.WithAcceptLog()), numbered(1, 6)...)
}

func TestRecoveryWrongFiles(t *testing.T) {
	for name, spoil := range map[string]func(m *machine){
		"short":      func(m *machine) { m.write(firstSegment, m.read(firstSegment)[:8000]) },
		"long":       func(m *machine) { m.write(firstSegment, append(m.read(firstSegment), 0)) },
		"stray":      func(m *machine) { m.write("commitlog/notes.txt", []byte("x")) },
		"gap":        func(m *machine) { m.write("commitlog/00000000000000032768", make([]byte, 16<<10)) },
		"misaligned": func(m *machine) { m.write("commitlog/00000000000000000100", make([]byte, 16<<10)) },
	} {
		t.Run(name, func(t *testing.T) {
			m, _ := halfSynced(t)
			m.t = t
			spoil(m)
			require.Contains(t, m.corrupt(store.WithDurability(message.InCache)).Path, "commitlog")
		})
	}
}

// A first file that is lost must not look like one that has expired.
func TestRecoveryFirstSegment(t *testing.T) {
	m := newMachine(t)
	s := m.open(store.WithRetention(time.Hour))
	fillOrders(t, s, message.OnDisk, numbered(1, 100)...)
	m.clock.Advance(2 * time.Hour)
	fillOrders(t, s, message.OnDisk, numbered(101, 200)...)
	old := m.read(firstSegment)
	require.NoError(t, s.Retain())
	start := s.Log().Start()
	require.EqualValues(t, len(old), start)
	require.NoError(t, s.Close())
	s = m.open()
	require.True(t, s.Stats().Recovery.Clean)
	require.NoError(t, s.Close())

	m.write(firstSegment, old) // as if retention had died before it took the file
	s = m.open(store.WithRetention(time.Hour))
	require.Zero(t, s.Log().Start())
	checkOK(t, s)
	require.NoError(t, s.Retain())
	require.Equal(t, start, s.Log().Start())
	require.NoError(t, s.Close())

	first := fmt.Sprintf("commitlog/%020d", start)
	require.NoError(t, m.root.Remove(first))
	bad := m.corrupt()
	require.Equal(t, m.root.Path(first), bad.Path)
	require.Equal(t, "segment missing", bad.Reason)

	s = m.open(store.WithAcceptLog())
	require.Greater(t, s.Log().Start(), start)
	from, end, err := s.Bounds(orders)
	require.NoError(t, err)
	require.EqualValues(t, 200, end)
	b, err := s.Read(ctx, orders, from, message.Limit{Count: 1}, nil)
	require.NoError(t, err)
	require.GreaterOrEqual(t, b.Records[0].Position(), s.Log().Start())
	checkOK(t, s)
}

func TestRecoveryPreparedSegment(t *testing.T) {
	m := newMachine(t)
	s := m.open()
	fillOrders(t, s, message.OnDisk, numbered(1, 35)...)
	require.NoError(t, s.Step(ctx))
	next := "commitlog/00000000000000016384"
	_, err := m.root.Stat(next)
	require.NoError(t, err, "the next segment is made ahead")
	m.kill(s)
	s = m.open()
	_, err = m.root.Stat(next)
	require.ErrorIs(t, err, iofs.ErrNotExist)
	holds(t, s, numbered(1, 35)...)
}

func TestRecoveryMissingFolder(t *testing.T) {
	for _, folder := range []string{"commitlog", "ember/meta"} {
		m := newMachine(t)
		s := m.open()
		fillOrders(t, s, message.OnDisk, "a")
		require.NoError(t, s.Close())
		require.NoError(t, removeTree(m.root, folder))
		require.NoError(t, m.root.Remove(folder))
		_, err := m.tryOpen()
		var missing *store.MissingError
		require.ErrorAs(t, err, &missing)
		require.Equal(t, folder, missing.Folder)
	}
}

func TestRecoveryClamp(t *testing.T) {
	m := shortened(t, false)
	s := m.open(store.WithAcceptLog())
	require.Equal(t, 1, s.Stats().Recovery.Clamped)
	offset, ok, err := s.Committed(ctx, "billing", orders)
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 3, offset)
	m.kill(s)
	require.Zero(t, m.open().Stats().Recovery.Clamped, "it is on disk before the store serves")
}

// TestRecoveryPage keeps docs/recovery.md and the tests together.
func TestRecoveryPage(t *testing.T) {
	page, err := os.ReadFile("../docs/recovery.md")
	require.NoError(t, err)
	var code []byte
	list, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, e := range list {
		if strings.HasSuffix(e.Name(), "_test.go") {
			b, err := os.ReadFile(e.Name())
			require.NoError(t, err)
			code = append(code, b...)
		}
	}
	names := regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(names), 20)
	for _, n := range names {
		require.Contains(t, string(code), "func "+n[1]+"(", "docs/recovery.md names a test that is not there")
	}
	for _, n := range regexp.MustCompile(`func (Test(?:Recovery|View|Replay)[A-Za-z]+)\(`).FindAllStringSubmatch(string(code), -1) {
		if n[1] != "TestRecoveryPage" && !slices.ContainsFunc(names, func(p []string) bool { return p[1] == n[1] }) {
			t.Errorf("docs/recovery.md does not name %s", n[1])
		}
	}
}

// TestRecoveryAbort dies in each of the first operations of an Open that finds a
// torn tail. However the mark of the open directory was caught, nobody else has
// written here: the tail stays a torn one.
func TestRecoveryAbort(t *testing.T) {
	base, rs := halfSynced(t)
	// The body got to the disk and the checksum behind it did not.
	base.edit(firstSegment, func(b []byte) { clear(b[rs[5].Position+rs[5].Position-rs[4].Position-20:]) })
	for op := 1; op <= 12; op++ {
		for _, mid := range []bool{false, true} {
			died := base.sim.Kill()
			died.StopAfter(op, mid)
			m := &machine{t, died, died.FS(), base.clock}
			_, err := m.tryOpen(store.WithDurability(message.InCache))
			require.Error(t, err)
			for i, mode := range append(crash.Modes[:], crash.Modes[:]...) {
				sim := died.PowerCut(mode, uint64(i))
				m := &machine{t, sim, sim.FS(), base.clock}
				s := m.open(store.WithDurability(message.InCache))
				require.Empty(t, s.Stats().Recovery.Foreign, sim.Name())
				require.LessOrEqual(t, s.Stats().Recovery.End, rs[5].Position)
				require.NoError(t, s.Abandon())
			}
		}
	}
}
