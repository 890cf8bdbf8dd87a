package rocketmq

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/interop/rocketmq/oracle"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// TestSamePuts: the same messages put to both stores make the same commit logs,
// byte for byte, but for the times and the checksum over them.
func TestSamePuts(t *testing.T) {
	j, r := java(t), random(t, 7)
	for _, host := range []string{shortHost, longHost} {
		p := newPlan(0, t.TempDir(), 0, 7)
		p.Segment, p.Features = 16<<20, theirFeatures
		if host == shortHost {
			p.Features &^= ipv6Host
		}
		var ms []*message.Message
		for range 300 {
			ms = append(ms, p.next(r))
		}
		ms[100].Body, ms[100].Encoding = bytesOf(r, 4<<20), message.None

		c := p.config()
		c.Dir, c.AppendCRC, c.MaxBody = t.TempDir(), true, 4<<20
		theirs, err := j.Open(t.Context(), c)
		require.NoError(t, err)
		var puts []oracle.Message
		for _, m := range ms {
			puts = append(puts, p.javaMessage(m))
		}
		got, err := theirs.Put(t.Context(), puts...)
		require.NoError(t, err)

		s, err := store.Open(p.Dir, append(p.options(), store.WithHost(netip.MustParseAddrPort(host)), store.WithDurability(message.InCache))...)
		require.NoError(t, err)
		for i, m := range ms {
			receipt, err := s.Put(t.Context(), m)
			require.NoError(t, err)
			require.Equal(t, got[i].Position, receipt.Position)
			require.Equal(t, got[i].Offset, receipt.Offset)
		}
		require.NoError(t, s.Close())

		ours, _ := walkLog(t, p)
		p.Dir = c.Dir
		javas, _ := walkLog(t, p)
		require.Len(t, ours, len(ms))
		require.Len(t, javas, len(ms))
		for i := range ours {
			a, b := withoutTimes(&ours[i]), withoutTimes(&javas[i])
			require.Equal(t, maps.Collect(b.Properties())["KEYS"], maps.Collect(a.Properties())["KEYS"])
			require.Equal(t, b.Bytes(), a.Bytes(), "message %d", i)
		}
		require.NoError(t, theirs.Close(t.Context()))
	}
}

// withoutTimes returns the record with its times and its checksum's digits set
// to zero.
func withoutTimes(r *message.Record) message.Record {
	c := r.Clone()
	b := c.Bytes()
	clear(b[40:48]) // born time
	at := 56
	if c.SysFlag()&message.FlagBornIPv6 != 0 {
		at += 12
	}
	clear(b[at : at+8]) // store time
	clear(b[len(b)-11 : len(b)-1])
	return c
}
