package store_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/internal/clock"
	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// TestIndexFails: while everything that writes index files fails, puts and reads
// go on and queries are right or say what is wrong; afterwards the index comes
// back without a reopen.
func TestIndexFails(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		t.Run(fmt.Sprint(cause), func(t *testing.T) {
			sim := crash.New(1)
			f := fs.NewFaulty(sim.FS())
			e := env.Env{Open: func(string, bool) (fs.FS, error) { return f, nil }, Clock: clock.NewManual(time.UnixMilli(1e12)), Manual: true, PID: 7}
			o := []store.Option{store.WithEnvironment(e), store.WithIndexSizes(64, 100)}
			s, err := store.Open("faulty", o...)
			require.NoError(t, err)
			var want []string
			putSome := func(n int) {
				for range n {
					text := fmt.Sprint(len(want))
					putKeys(t, s, text, "k")
					want = append([]string{text}, want...)
				}
			}
			q := index.Query{Topic: "orders", Key: "k", Limit: 10_000}
			putSome(300)
			require.NoError(t, s.Checkpoint(ctx))
			for _, name := range []string{"index/", "ember/index", "ember/index.tmp"} {
				f.Fail(fs.Fault{Ops: changes, Name: name, Times: -1, Err: cause})
			}
			for range 4 {
				putSome(100)
				require.ErrorIs(t, s.Checkpoint(ctx), cause)
				var got []string
				for r, err := range s.Find(ctx, q) {
					if err != nil {
						require.ErrorIs(t, err, cause)
						got = nil
						break
					}
					got = append(got, string(r.Body()))
				}
				if got != nil {
					require.Equal(t, want, got)
				}
			}
			require.Len(t, read(t, s, message.Queue{Topic: "orders"}, 0, nil), len(want))
			require.Positive(t, f.Fired())
			f.Heal()
			require.Equal(t, want, bodies(t, s, q))
			require.NoError(t, s.Checkpoint(ctx))
			checkOK(t, s)
			require.NoError(t, s.Close())
			s, err = store.Open("faulty", o...)
			require.NoError(t, err)
			require.Empty(t, s.Stats().Recovery.Rebuilt)
			require.Equal(t, want, bodies(t, s, q))
			require.NoError(t, s.Close())
		})
	}
}
