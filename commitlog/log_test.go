package commitlog

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

var ctx = context.Background()

func manualClock() *clock.Manual { return clock.NewManual(time.UnixMilli(1_700_000_000_000)) }

// folders returns the two folders of a log inside root.
func folders(tb testing.TB, root fs.FS) (log, state fs.FS) {
	tb.Helper()
	for _, dir := range []string{"commitlog", "ember"} {
		require.NoError(tb, root.MkdirAll(dir))
	}
	require.NoError(tb, root.SyncDir("."))
	return root.Sub("commitlog"), root.Sub("ember")
}

// disk is a folder of the real file system.
func disk(tb testing.TB) fs.FS {
	tb.Helper()
	root, err := fs.MakeOS(tb.TempDir())
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = root.Close() })
	return root
}

func open(tb testing.TB, root fs.FS, o Options) *Log {
	tb.Helper()
	log, state := folders(tb, root)
	l, err := Open(log, state, o)
	require.NoError(tb, err)
	return l
}

// put fills a group with n records of about size bytes.
func put(tb testing.TB, g *Group, seq *Sequence, n, size int, text string) *Group {
	tb.Helper()
	for i := range n {
		m := message.Message{Topic: "orders", Body: body(fmt.Sprintf("%s/%d", text, i), size)}
		var e *message.Envelope
		if i == 0 && n > 1 {
			e = &message.Envelope{Reserved: []message.Property{{Name: message.PropGroup, Value: message.GroupValue(n), Own: true}}}
		}
		en := g.Add()
		en.Seq = seq
		require.NoError(tb, en.Draft.Encode(&m, message.Queue{Topic: "orders", ID: 1}, e))
	}
	return g
}

func body(text string, size int) []byte {
	b := make([]byte, max(size, len(text)))
	copy(b, text)
	return b
}

func appendText(tb testing.TB, l *Log, seq *Sequence, onDisk bool, texts ...string) {
	tb.Helper()
	for _, s := range texts {
		g := put(tb, &Group{OnDisk: onDisk}, seq, 1, 0, s)
		require.NoError(tb, l.Append(ctx, g))
		g.Release()
	}
}

// texts reads the whole log.
func texts(tb testing.TB, l *Log) []string {
	tb.Helper()
	var out []string
	end, err := l.Scan(l.Start(), l.Visible(), func(r *message.Record) error {
		out = append(out, string(r.Body()))
		return nil
	})
	require.NoError(tb, err)
	require.Equal(tb, l.Visible(), end)
	return out
}

func TestAppendReadReopen(t *testing.T) {
	for _, onDisk := range []bool{false, true} {
		for name, root := range map[string]fs.FS{"os": disk(t), "sim": crash.New(1).FS()} {
			t.Run(fmt.Sprintf("%s/onDisk=%v", name, onDisk), func(t *testing.T) {
				root := root.Sub(fmt.Sprint(onDisk))
				require.NoError(t, root.MkdirAll("."))
				o := Options{SegmentSize: 1 << 14, MaxUnsynced: 1 << 13, OnDisk: onDisk, Manual: name == "sim"}
				l := open(t, root, o)
				require.Empty(t, texts(t, l))
				seq := NewSequence(0)
				var want []string
				var entries []*Entry
				for i := range 200 {
					g := put(t, &Group{OnDisk: i%3 == 0}, seq, 1+i%4, 10*i%700, fmt.Sprint(i))
					require.NoError(t, l.Append(ctx, g))
					for k := range g.Entries {
						want = append(want, string(body(fmt.Sprintf("%d/%d", i, k), 10*i%700)))
						entries = append(entries, &g.Entries[k])
					}
				}
				require.NoError(t, l.Sync(ctx))
				require.Equal(t, l.Appended(), l.Visible())
				require.Equal(t, want, texts(t, l))
				check := func() {
					var r message.Record
					var buf []byte
					var err error
					for i, e := range entries {
						buf, err = l.Record(e.Position, e.Draft.Size(), buf, &r)
						require.NoError(t, err)
						require.Equal(t, want[i], string(r.Body()))
						require.Equal(t, int64(i), r.Offset())
						ok, err := l.MarkMatches(e.Mark())
						require.NoError(t, err)
						require.True(t, ok)
						ok, err = l.MarkMatches(message.Mark{Offset: e.Mark().Offset, Fingerprint: e.Mark().Fingerprint ^ 1})
						require.NoError(t, err)
						require.False(t, ok)
					}
				}
				check()
				mark := l.LastMark()
				end := l.Appended()
				require.NoError(t, l.Close())
				require.NoError(t, l.Close())
				_, err := l.Record(0, 100, nil, &message.Record{})
				require.ErrorIs(t, err, message.ErrClosed)

				l = open(t, root, o)
				require.True(t, l.Recovery().Clean)
				require.Equal(t, end, l.Recovery().End)
				require.Zero(t, l.Recovery().CutBytes)
				require.Equal(t, mark, l.LastMark())
				require.Equal(t, want, texts(t, l))
				check()
				appendText(t, l, seq, true, "more")
				require.Equal(t, append(want, "more/0"), texts(t, l))
				require.NoError(t, l.Close())
			})
		}
	}
}

func TestParallelAppends(t *testing.T) {
	for _, onDisk := range []bool{false, true} {
		t.Run(fmt.Sprintf("onDisk=%v", onDisk), func(t *testing.T) {
			var applied []int64
			var next int64
			o := Options{SegmentSize: 1 << 18, MaxUnsynced: 1 << 16, OnDisk: onDisk, Apply: func(es []*Entry) {
				for _, e := range es {
					if e.Position < next {
						panic("applied out of order")
					}
					next = e.Position + int64(e.Draft.Size())
					applied = append(applied, e.Position)
				}
			}}
			pool := sync.Pool{New: func() any { return new(Group) }}
			o.Release = func(g *Group) { g.Reset(); pool.Put(g) }
			l := open(t, disk(t), o)
			seq := NewSequence(0)
			var wg sync.WaitGroup
			const workers, each = 16, 200
			for w := range workers {
				wg.Go(func() {
					async := make(chan error, each)
					n := 0
					for i := range each {
						g := pool.Get().(*Group)
						put(t, g, seq, 1+(i+w)%3, 50, fmt.Sprintf("%d-%d", w, i))
						g.OnDisk = (i+w)%2 == 0
						switch {
						case i%5 == 4:
							n++
							g.Done = func(g *Group, err error) { async <- err; g.Release() }
							if err := l.AppendAsync(ctx, g); err != nil {
								panic(err)
							}
						case i%7 == 6:
							c, cancel := context.WithCancel(ctx)
							go cancel()
							_ = l.Append(c, g)
							g.Release()
						default:
							if err := l.Append(ctx, g); err != nil {
								panic(err)
							}
							if l.o.OnDisk == g.OnDisk || !l.o.OnDisk {
								e := &g.Entries[len(g.Entries)-1]
								if v := l.Visible(); v < e.Position+int64(e.Draft.Size()) {
									panic("not visible")
								}
							}
							g.Release()
						}
					}
					for range n {
						if err := <-async; err != nil {
							panic(err)
						}
					}
				})
			}
			wg.Wait()
			require.NoError(t, l.Sync(ctx))
			all := texts(t, l)
			require.Len(t, applied, len(all))
			require.Equal(t, int64(len(all)), seq.Next())
			require.NoError(t, l.Close())
		})
	}
}
