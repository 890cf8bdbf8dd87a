package commitlog

import (
	"errors"
	"testing"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// FuzzOpen opens a log whose second segment and watermark hold anything. Whatever
// they hold, Open answers with a log that can be read and appended to, or with an
// error and nothing changed; it does not panic.
func FuzzOpen(f *testing.F) {
	const segment, w = 2048, 1024
	o := Options{SegmentSize: segment, MaxUnsynced: w, Manual: true, OnDisk: true, DiskReserve: -1, Owner: 3, Found: 3}
	sim := crash.New(1)
	l := open(f, sim.FS(), o)
	seq := NewSequence(0)
	for i := range 20 {
		n := 1 + i%3
		g := put(f, &Group{OnDisk: i < 15}, seq, n, 30, "x")
		if err := l.Append(ctx, g); err != nil {
			f.Fatal(err)
		}
	}
	sim = sim.Kill()
	seg1, err := fs.Read(sim.FS(), "commitlog/"+segmentName(segment))
	if err != nil {
		f.Fatal(err)
	}
	synced, err := fs.Read(sim.FS(), "ember/synced")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seg1, synced, byte(0))
	f.Add(seg1[:700], synced, byte(1))
	f.Add(append(append([]byte(nil), seg1[:900]...), 1, 2, 3), synced[:512], byte(2))
	f.Add([]byte{}, []byte{}, byte(4))
	f.Fuzz(func(t *testing.T, seg, slots []byte, how byte) {
		sim := sim.Kill()
		root := sim.FS()
		set := func(name string, b []byte, n int) {
			p := make([]byte, n)
			copy(p, b)
			if err := fs.WriteFile(root, name, p); err != nil {
				t.Fatal(err)
			}
		}
		set("commitlog/"+segmentName(segment), seg, segment)
		if len(slots) > 0 {
			set("ember/synced", slots, 2*slotSize)
		}
		o := o
		o.ReadOnly, o.AcceptLog = how&1 != 0, how&2 != 0
		if how&4 != 0 {
			o.Found = 0
		}
		l, err := Open(root.Sub("commitlog"), root.Sub("ember"), o)
		if err != nil {
			if !errors.Is(err, message.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		n := 0
		err = l.Walk(ctx, l.Visible(), func(*message.Record) { n++ }, func(error) {})
		if err != nil {
			t.Fatal(err)
		}
		if o.ReadOnly {
			return
		}
		if err := l.Append(ctx, put(t, &Group{OnDisk: true}, nil, 2, 10, "after")); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		o.Found, o.Foreign = 3, l.Recovery().Foreign
		l, err = Open(root.Sub("commitlog"), root.Sub("ember"), o)
		if err != nil {
			t.Fatal(err)
		}
		again := 0
		if err := l.Walk(ctx, l.Visible(), func(*message.Record) { again++ }, func(error) {}); err != nil {
			t.Fatal(err)
		}
		if again != n+2 || !l.Recovery().Clean {
			t.Fatalf("%d records became %d: %+v", n, again, l.Recovery())
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
