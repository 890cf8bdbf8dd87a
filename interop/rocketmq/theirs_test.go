package rocketmq

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/interop/rocketmq/oracle"
	"github.com/embermq/embermq/message"
)

const theirFeatures = emptyBodies | largeBodies | hugeBodies | tags | keys | properties | unicode | compressed | batches | longTopics | ipv6Host |
	uniqueIDs | manySegments | manyQueueFiles | reopened | killed | javaCRC | javaSync | staleCRC | multiDispatch | delayed | halves

// TestTheirs: what Java writes, we read. Java's own answers about each store are
// what ours are compared with.
func TestTheirs(t *testing.T) {
	t.Parallel()
	java(t)
	var covered coverage
	inBatches(t, theirFeatures, 1, func(t *testing.T, plans []plan) {
		seen := writeTheirs(t, plans)
		for i, p := range plans {
			t.Run(fmt.Sprintf("store %d", p.Number), func(t *testing.T) {
				report(t, p)
				readRaw(t, p, seen[i])
				importTheirs(t, p, seen[i])
			})
			covered.add(p.Features)
			require.NoError(t, os.RemoveAll(p.Dir))
		}
	})
	covered.require(t, "theirs → ours", theirFeatures)
}

// report prints the plan of a store whose test failed, and keeps its directory
// when the flag asks for it.
func report(t *testing.T, p plan) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		t.Log(p)
		if *keepFlag != "" {
			require.NoError(t, os.CopyFS(fmt.Sprintf("%s/%d", *keepFlag, p.Seed), os.DirFS(p.Dir)))
		}
	})
}

// view is what Java says about a store.
type view struct {
	queues     []oracle.Queue
	records    map[string][]oracle.Record
	start, end int64
	times      map[string][]int64 // that were asked for, and the offsets found
	lower      map[string][]int64
	upper      map[string][]int64
	waits      map[int64]bool // positions of delayed and half messages that wait still
}

// look asks an open store about everything.
func look(ctx context.Context, s *oracle.Store) (*view, error) {
	v := &view{records: make(map[string][]oracle.Record), waits: make(map[int64]bool), lower: make(map[string][]int64), upper: make(map[string][]int64), times: make(map[string][]int64)}
	var err error
	if v.queues, v.start, v.end, err = s.Queues(ctx); err != nil {
		return nil, err
	}
	for _, q := range v.queues {
		key := fmt.Sprintf("%s/%d", q.Topic, q.Queue)
		if v.records[key], _, err = s.Read(ctx, q.Topic, q.Queue, q.Start, true); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		times := []int64{0, 1, 1 << 50}
		for _, r := range v.records[key] {
			times = append(times, r.StoredAt-1, r.StoredAt, r.StoredAt+1)
		}
		v.times[key] = times
		if v.lower[key], v.upper[key], err = s.Times(ctx, q.Topic, q.Queue, times); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return v, nil
}

// writeTheirs lets Java make the stores, closes some of them and kills the rest.
func writeTheirs(t *testing.T, plans []plan) []*view {
	t.Helper()
	doomed := ownJava(t)
	seen := make([]*view, len(plans))
	errs := sideBySide(len(plans), func(i int) error {
		p, j := plans[i], java(t)
		if p.Features.has(killed) {
			j = doomed
		}
		w, err := writeTheir(t.Context(), j, p)
		if err != nil {
			return fmt.Errorf("%v: %w", p, err)
		}
		if seen[i], err = look(t.Context(), w.s); err != nil {
			return err
		}
		if seen[i].waits, err = w.waiting(); err != nil || p.Features.has(killed) {
			return err
		}
		return w.s.Close(t.Context())
	})
	require.NoError(t, errors.Join(errs...))
	require.NoError(t, doomed.Halt())
	return seen
}

func writeTheir(ctx context.Context, j *oracle.JVM, p plan) (*theirWriter, error) {
	r := p.random()
	c := p.config()
	c.AppendCRC, c.Sync, c.LMQ = p.Features.has(javaCRC), p.Features.has(javaSync), p.Features.has(multiDispatch)
	s, err := j.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	w := &theirWriter{p: p, s: s}
	for _, m := range p.huge(r) {
		if _, err := w.put(ctx, p.javaMessage(m)); err != nil {
			return nil, err
		}
	}
	for left := p.Messages; left > 0; {
		if err := w.held(ctx, r); err != nil {
			return nil, err
		}
		if p.Features.has(batches) && r.IntN(10) == 0 {
			n := 2 + r.IntN(4)
			ms := make([]oracle.Message, n)
			for i := range ms {
				ms[i] = p.javaMessage(p.next(r))
				ms[i].Topic, ms[i].Queue = ms[0].Topic, ms[0].Queue
				ms[i].Body = ms[i].Body[:min(len(ms[i].Body), 500)]
				ms[i].SysFlag = 0
			}
			got, err := s.PutBatch(ctx, map[string]string{"CLUSTER": "c"}, ms...)
			if err != nil || !got.OK() {
				return nil, fmt.Errorf("batch: %+v, %w", got, err)
			}
			left -= n
			continue
		}
		var ms []oracle.Message
		for range min(left, 1+r.IntN(20)) {
			m := p.javaMessage(p.next(r))
			if p.Features.has(uniqueIDs) {
				m.Properties["UNIQ_KEY"] = fmt.Sprintf("%032X", r.Uint64())
			}
			if p.Features.has(staleCRC) && r.IntN(3) == 0 {
				m.Properties["__CRC32#"] = fmt.Sprintf("%010d", r.Uint32())
			}
			if p.Features.has(multiDispatch) && r.IntN(3) == 0 {
				m.Properties["INNER_MULTI_DISPATCH"] = []string{"%LMQ%one", "%LMQ%one,%LMQ%two"}[r.IntN(2)]
			}
			ms = append(ms, m)
		}
		if _, err := w.put(ctx, ms...); err != nil {
			return nil, err
		}
		left -= len(ms)
		if p.Features.has(reopened) && left <= p.Messages/2 {
			if err := s.Close(ctx); err != nil {
				return nil, err
			}
			if s, err = j.Open(ctx, c); err != nil || !s.Loaded {
				return nil, fmt.Errorf("open again: %w", err)
			}
			w.s = s
			p.Features &^= reopened // once is enough
		}
	}
	return w, nil
}

// javaMessage is a message of ours for Java to put.
func (p plan) javaMessage(m *message.Message) oracle.Message {
	var sysFlag int32
	switch m.Encoding {
	case message.Zlib:
		sysFlag = message.FlagCompressed | 0x300
	case message.Zstd:
		sysFlag = message.FlagCompressed | 0x200
	}
	return oracle.Message{
		Topic: m.Topic, Queue: m.QueueID, Body: m.Body, Flag: m.Flag, SysFlag: sysFlag, BornAt: 1_700_000_000_000,
		BornHost: p.host(), StoreHost: p.host(), Properties: wantProperties(m),
	}
}

// readRaw reads a directory of Java's with the codecs alone.
func readRaw(t *testing.T, p plan, v *view) {
	t.Helper()
	records, end := walkLog(t, p)
	require.Equal(t, v.end, end)
	byPosition := make(map[int64]*message.Record)
	for i := range records {
		r := &records[i]
		byPosition[r.Position()] = r
		if p.Features.has(javaCRC) {
			require.NoError(t, r.VerifyChecksum())
		}
	}
	seen := make(map[int64]bool)
	for key, theirs := range v.records {
		for i := range theirs {
			ours := byPosition[theirs[i].Position]
			require.NotNil(t, ours, "%s %d", key, i)
			equalRecord(t, &theirs[i], ours)
			require.Equal(t, theirs[i].Raw, ours.Bytes())
			seen[ours.Position()] = true
		}
	}
	require.Len(t, seen, len(records))

	entries, _ := walkQueues(t, p)
	sameEntries(t, wantEntries(records), entries)

	headers, found := walkIndex(t, p)
	want := wantIndex(records)
	for i, h := range headers {
		for k, e := range found[i] {
			require.NotEmpty(t, want, "index file %d entry %d", i, k)
			require.Equal(t, want[0].Hash, e.Hash)
			require.Equal(t, want[0].Position, e.Position)
			begin := h.BeginTime
			if k == 0 && i > 0 {
				begin = headers[i-1].EndTime // a new file begins there until its first entry is in
			}
			require.EqualValues(t, (byPosition[e.Position].StoredAtMillis()-begin)/1000, e.Seconds)
			want = want[1:]
		}
	}
	require.Empty(t, want)
}
