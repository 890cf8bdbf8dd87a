package commitlog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/message"
)

// staleRecordServed lets the disk return, in the place of one record, another one
// that is whole and of the same size. It returns what a read then serves.
func staleRecordServed(t *testing.T) []byte {
	t.Helper()
	sim := crash.New(1)
	l := open(t, sim.FS(), Options{SegmentSize: 1 << 13, MaxUnsynced: 1 << 12, Manual: true})
	defer l.Close()
	g := &Group{OnDisk: true}
	w := workload{seq: NewSequence(0), aligned: true}
	for i, text := range []string{"first", "second"} {
		w.encode(g.Add(), text, 100, i, 1)
	}
	require.NoError(t, l.Append(ctx, g))
	require.Equal(t, sector, g.Entries[0].Draft.Size())
	require.NoError(t, sim.SwapSectors("commitlog/"+segmentName(0), 0, sector))
	var r message.Record
	if _, err := l.Record(0, sector, nil, &r); err != nil {
		var bad *message.CorruptError
		require.ErrorAs(t, err, &bad)
		require.Equal(t, string(defectPosition), bad.Reason)
		return nil
	}
	return r.Body()
}

func TestStaleRecord(t *testing.T) { require.Nil(t, staleRecordServed(t)) }
