package rocketmq

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/interop/rocketmq/oracle"
	"github.com/embermq/embermq/message"
)

// TestHaltedMidWrite: Java is killed while it puts, and of some directories the
// end of the last record is lost, as in a power cut. We recover what Java does.
func TestHaltedMidWrite(t *testing.T) {
	t.Parallel()
	j := ownJava(t)
	dir := t.TempDir()
	var plans []plan
	for n := range max(4, *storesFlag/10) {
		plans = append(plans, newPlan(n, dir, theirFeatures&^(reopened|javaCRC|hugeBodies)|killed, 4))
	}
	acknowledged := make([]int64, len(plans))
	var under, done sync.WaitGroup
	under.Add(len(plans))
	for i, p := range plans {
		done.Go(func() {
			var once sync.Once
			defer once.Do(under.Done)
			var err error
			if acknowledged[i], err = putUntilDead(t, j, p, func() { once.Do(under.Done) }); err != nil {
				t.Errorf("%v: %v", p, err)
			}
		})
	}
	under.Wait()
	require.NoError(t, j.Halt())
	done.Wait()

	for i, p := range plans {
		if i%2 == 1 {
			acknowledged[i] = min(acknowledged[i], tearLast(t, p))
		}
		require.NoError(t, os.CopyFS(p.Dir+"-copy", os.DirFS(p.Dir)))
	}
	j = ownJava(t)
	for i, p := range plans {
		t.Run(fmt.Sprintf("store %d", p.Number), func(t *testing.T) {
			report(t, p)
			c := p.config()
			c.Dir, c.LMQ = p.Dir+"-copy", p.Features.has(multiDispatch)
			theirs, err := j.Open(t.Context(), c)
			require.NoError(t, err)
			require.True(t, theirs.Loaded)
			seen, err := look(t.Context(), theirs)
			require.NoError(t, err)
			require.GreaterOrEqual(t, seen.end, acknowledged[i])
			importTheirs(t, p, seen)
		})
	}
}

// putUntilDead puts until the process is gone and returns where the log ended
// with the last receipt. It calls started when the first ones are there.
func putUntilDead(t *testing.T, j *oracle.JVM, p plan, started func()) (end int64, err error) {
	r, c := p.random(), p.config()
	c.Sync, c.LMQ = p.Features.has(javaSync), p.Features.has(multiDispatch)
	s, err := j.Open(t.Context(), c)
	if err != nil {
		return 0, err
	}
	for call := 0; ; call++ {
		var ms []oracle.Message
		for range 10 {
			ms = append(ms, p.javaMessage(p.next(r)))
		}
		got, err := s.Put(t.Context(), ms...)
		if err != nil && call > 3 {
			return end, nil // what this test is about
		}
		if err != nil {
			return 0, err
		}
		for _, g := range got {
			if !g.OK() {
				return 0, fmt.Errorf("put: %+v", g)
			}
			end = g.Position + int64(g.Size)
		}
		if call == 3 {
			started()
		}
	}
}

// tearLast takes the second half of the log's last record away and returns where
// the record began. Where that would stop Java, the tear begins in front of body
// and names.
func tearLast(t *testing.T, p plan) int64 {
	t.Helper()
	records, end := walkLog(t, p)
	last := records[len(records)-1]
	at := last.Position()
	name := filepath.Join(p.Dir, "commitlog", fmt.Sprintf("%020d", at-at%p.Segment))
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	require.NoError(t, err)
	kept := int64(last.Size() / 2)
	if stopsJava(last.Bytes(), kept) {
		kept = message.MinRecordSize / 2
	}
	_, err = f.WriteAt(make([]byte, end-at-kept), at%p.Segment+kept)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return at
}

// stopsJava reports whether Java takes the first kept bytes of a record, and zeros,
// for a record of a queue for which it cannot make a folder: no checksum of its
// covers anything behind the body. It tries for 30 seconds and then gives all
// queues up.
func stopsJava(record []byte, kept int64) bool {
	torn := slices.Clone(record)
	clear(torn[kept:])
	r, err := message.ParseRecord(torn)
	if err != nil || r.VerifyBody() != nil {
		return false
	}
	further, _ := r.Property(message.PropInnerDispatch)
	return strings.Contains(r.Topic()+further, "\x00")
}
