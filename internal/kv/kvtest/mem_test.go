package kvtest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/kv"
)

// TestMem gives the same batches to a Mem and to a real store.
func TestMem(t *testing.T) {
	ctx := t.Context()
	db, err := kv.Open(crash.New(1).FS(), kv.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	m, rnd := New(), rand.New(rand.NewPCG(1, 1))
	key := func() []byte { return fmt.Appendf(nil, "k%02d", rnd.IntN(40)) }
	for i := range 300 {
		var b kv.Batch
		for range rnd.IntN(8) {
			switch rnd.IntN(4) {
			case 0:
				b.Delete(key())
			case 1:
				b.DeleteRange(key(), key())
			default:
				b.Set(key(), fmt.Append(nil, i))
			}
		}
		require.NoError(t, db.Apply(ctx, &b, false))
		require.NoError(t, m.Apply(ctx, &b, false))
		from, to := key(), key()
		require.Equal(t, rows(t, db.Scan(from, to)), rows(t, m.Scan(from, to)), i)
	}
}

func rows(t *testing.T, scan func(func(kv.KV, error) bool)) (out []string) {
	for r, err := range scan {
		require.NoError(t, err)
		out = append(out, string(r.Key)+"="+string(r.Value))
	}
	return out
}

func TestOutcomes(t *testing.T) {
	ctx, m := t.Context(), New()
	put := func(key string, sync bool) error {
		var b kv.Batch
		b.Set([]byte(key), []byte("1"))
		return m.Apply(ctx, &b, sync)
	}
	require.NoError(t, put("a", true))
	require.Equal(t, 1, m.Versions(), "what is synced survives")
	require.NoError(t, put("b", false))
	require.Equal(t, 2, m.Versions())
	m.Fail = 1
	require.ErrorIs(t, put("c", true), ErrDisk)
	require.Equal(t, 2, m.Versions(), "it is not there")
	m.Fail, m.After = 1, true
	require.ErrorIs(t, put("c", true), ErrDisk)
	require.Equal(t, 3, m.Versions(), "it is there, or not")
	require.Equal(t, []string{"a=1"}, rows(t, m.Cut(0).Scan([]byte("a"), []byte("z"))))
	require.Equal(t, []string{"a=1", "b=1", "c=1"}, rows(t, m.Cut(2).Scan([]byte("a"), []byte("z"))))
}
