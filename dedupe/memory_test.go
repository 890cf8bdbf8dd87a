package dedupe

import (
	"flag"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/kv/kvtest"
	"github.com/embermq/embermq/message"
)

var memoryKeys = flag.Int("dedupe.keys", 200_000, "keys that TestMemory remembers")

// TestMemory measures what a key takes: while the window fills, and when it has
// been full for a while, saved and read back.
//
//	go test ./dedupe -run '^TestMemory$' -dedupe.keys=10000000 -v
func TestMemory(t *testing.T) {
	n := *memoryKeys
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	disk := kvtest.New()
	open := func() *Window {
		w, err := New(disk, Options{Window: time.Hour, Count: n, Read: func(int64, *message.Record) error { return message.ErrNotFound }})
		require.NoError(t, err)
		return w
	}
	before := heap()
	w := open()
	at := 0
	var worst float64
	put := func(count int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for range count {
			// What Apply does with a record.
			w.pushLocked(entry{position: int64(at) * 200, hash: uint32(hashOf("orders", numbered(at)))})
			at++
		}
	}
	per := func(when string) {
		t.Helper()
		bytes := float64(heap() - before)
		keys := float64(w.Stats().Keys)
		t.Logf("%-22s %9.0f keys, %5.2f bytes each; Stats says %5.2f", when, keys, bytes/keys, float64(w.Stats().Bytes)/keys)
		worst = max(worst, bytes/keys)
		require.InDelta(t, bytes, w.Stats().Bytes, 0.02*bytes+128<<10, when)
	}
	for i := range 20 {
		put(n / 20)
		if i >= 9 {
			per("filling")
		}
	}
	for range 3 {
		put(n / 2)
		per("full, keys come and go")
	}
	t.Logf("at most %.2f bytes a key", worst)
	require.Less(t, worst, 27.0+float64(128<<10)/float64(n/2))
	runtime.KeepAlive(w)
}
