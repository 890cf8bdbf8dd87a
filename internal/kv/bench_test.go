package kv

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/fs"
)

func fillSmall(b *testing.B, d *DB) {
	b.Helper()
	for i := range 100 {
		var batch Batch
		for j := range 10 {
			batch.Set(fmt.Appendf(nil, "p/key/%04d/%02d", i, j), make([]byte, 100))
		}
		require.NoError(b, d.Apply(ctx, &batch, false))
	}
}

func BenchmarkOpen(b *testing.B) {
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			f := osFS(b)
			b.StartTimer()
			d := mustOpen(b, f, Options{})
			b.StopTimer()
			require.NoError(b, d.Close())
			b.StartTimer()
		}
	})
	b.Run("closed", func(b *testing.B) {
		f := osFS(b)
		d := mustOpen(b, f, Options{})
		fillSmall(b, d)
		require.NoError(b, d.Close())
		for b.Loop() {
			d := mustOpen(b, f, Options{})
			b.StopTimer()
			require.NoError(b, d.Close())
			b.StartTimer()
		}
	})
	b.Run("killed", func(b *testing.B) {
		f := osFS(b)
		d := mustOpen(b, f, Options{})
		fillSmall(b, d)
		require.NoError(b, d.Apply(ctx, &Batch{}, true))
		files := snapshot(b, f)
		require.NoError(b, d.Close())
		for b.Loop() {
			b.StopTimer()
			c := osFS(b)
			for name, bytes := range files {
				w, err := c.Open(name, fs.Create)
				require.NoError(b, err)
				_, err = w.WriteAt([]byte(bytes), 0)
				require.NoError(b, err)
				require.NoError(b, w.Sync())
				require.NoError(b, w.Close())
			}
			b.StartTimer()
			d := mustOpen(b, c, Options{})
			b.StopTimer()
			require.NoError(b, d.Close())
			b.StartTimer()
		}
	})
}

func BenchmarkClose(b *testing.B) {
	f := osFS(b)
	for b.Loop() {
		b.StopTimer()
		d := mustOpen(b, f, Options{})
		fillSmall(b, d)
		b.StartTimer()
		require.NoError(b, d.Close())
	}
}

func BenchmarkApply(b *testing.B) {
	for _, sync := range []bool{true, false} {
		for _, par := range []int{1, 16} {
			b.Run(fmt.Sprintf("sync=%v/callers=%d", sync, par), func(b *testing.B) {
				d := mustOpen(b, osFS(b), Options{})
				b.ReportAllocs()
				b.SetParallelism(max(1, par/2)) // times GOMAXPROCS
				apply := func(batch *Batch) {
					if err := d.Apply(ctx, batch, sync); err != nil {
						b.Error(err)
					}
				}
				if par == 1 {
					batch := set("progress/group/topic/1", "offset--")
					for b.Loop() {
						apply(batch)
					}
				} else {
					b.RunParallel(func(pb *testing.PB) {
						batch := set("progress/group/topic/1", "offset--")
						for pb.Next() {
							apply(batch)
						}
					})
				}
				b.StopTimer()
				require.NoError(b, d.Close())
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	d := mustOpen(b, osFS(b), Options{})
	fillSmall(b, d)
	require.NoError(b, d.Flush(ctx))
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok, err := d.Get([]byte("p/key/0050/05")); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	b.Run("get-missing", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok, err := d.Get([]byte("p/key/0050/05x")); ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
	b.Run("scan-1000", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			for _, err := range d.Scan(nil, nil) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			if n != 1000 {
				b.Fatal(n)
			}
		}
	})
	require.NoError(b, d.Close())
}
