package rocketmq

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/schedule"
)

// walkLog reads the records of a directory's log with nothing but package
// message, and ends where no record begins. The records lie in the order of the
// log; end is behind the last.
func walkLog(t *testing.T, p plan) (records []message.Record, end int64) {
	t.Helper()
	for _, name := range fileNames(t, filepath.Join(p.Dir, "commitlog")) {
		b, err := os.ReadFile(filepath.Join(p.Dir, "commitlog", name))
		require.NoError(t, err)
		require.Len(t, b, int(p.Segment))
		base, err := strconv.ParseInt(name, 10, 64)
		require.NoError(t, err)
		for at := 0; ; {
			size, kind := message.Frame(b[at:])
			if kind == message.FrameBlank {
				end = base + p.Segment
				break
			}
			if kind == message.FrameNone {
				return records, base + int64(at)
			}
			require.Equal(t, message.FrameMessage, kind, "%s at %d", name, at)
			r, err := message.ParseRecord(b[at : at+size])
			require.NoError(t, err, "%s at %d", name, at)
			require.Equal(t, base+int64(at), r.Position())
			require.NoError(t, r.VerifyBody())
			records = append(records, r)
			at += size
		}
	}
	return records, end
}

// logEnd is where no record begins any more.
func logEnd(p plan) (int64, error) {
	folder := filepath.Join(p.Dir, "commitlog")
	files, err := os.ReadDir(folder)
	if err != nil {
		return 0, err
	}
	for _, f := range files { // in the order of their names
		base, err := strconv.ParseInt(f.Name(), 10, 64)
		if err != nil {
			return 0, err
		}
		b, err := os.ReadFile(filepath.Join(folder, f.Name()))
		if err != nil {
			return 0, err
		}
		size, kind := message.Frame(b)
		at := 0
		for kind == message.FrameMessage {
			at += size
			size, kind = message.Frame(b[at:])
		}
		if kind == message.FrameNone && int64(at) < p.Segment {
			return base + int64(at), nil
		}
	}
	return 0, fmt.Errorf("%s has no end", folder)
}

// walkQueues decodes every queue file up to the first entry that is none. The
// key is "topic/queue"; the first entry of a queue has offset first[key].
func walkQueues(t *testing.T, p plan) (entries map[string][]consumequeue.Entry, first map[string]int64) {
	t.Helper()
	entries, first = make(map[string][]consumequeue.Entry), make(map[string]int64)
	folders, err := filepath.Glob(filepath.Join(p.Dir, "consumequeue", "*", "*"))
	require.NoError(t, err)
	for _, folder := range folders {
		key := filepath.Base(filepath.Dir(folder)) + "/" + filepath.Base(folder)
		names := fileNames(t, folder)
		if len(names) == 0 {
			continue
		}
		base, err := strconv.ParseInt(names[0], 10, 64)
		require.NoError(t, err)
		first[key] = base / consumequeue.EntrySize
		var all []byte
		for _, name := range names {
			b, err := os.ReadFile(filepath.Join(folder, name))
			require.NoError(t, err)
			require.Len(t, b, int(p.QueueFile))
			all = append(all, b...)
		}
		for len(all) > 0 {
			e := consumequeue.Decode(all)
			if e.Size == 0 {
				break
			}
			entries[key] = append(entries[key], e)
			all = all[consumequeue.EntrySize:]
		}
	}
	return entries, first
}

// walkIndex decodes every index file: header and entries, oldest file first.
func walkIndex(t *testing.T, p plan) (headers []index.Header, entries [][]index.Entry) {
	t.Helper()
	for _, name := range fileNames(t, filepath.Join(p.Dir, "index")) {
		b, err := os.ReadFile(filepath.Join(p.Dir, "index", name))
		require.NoError(t, err)
		require.Len(t, b, int(index.HeaderSize+4*p.Slots+index.EntrySize*p.Entries))
		h := index.DecodeHeader(b)
		var es []index.Entry
		for k := range int64(h.Next) - 1 {
			es = append(es, index.DecodeEntry(b[index.HeaderSize+4*p.Slots+index.EntrySize*(k+1):]))
		}
		headers, entries = append(headers, h), append(entries, es)
	}
	return headers, entries
}

func fileNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	for _, e := range list {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names
}

// wantEntries are the queue entries that the records of a log call for.
func wantEntries(records []message.Record) map[string][]consumequeue.Entry {
	levels, err := schedule.ParseLevels(schedule.DefaultLevels)
	if err != nil {
		panic(err) // a bug: the table is a constant
	}
	want := make(map[string][]consumequeue.Entry)
	for i := range records {
		r := &records[i]
		if !r.Dispatchable() {
			continue
		}
		e := consumequeue.Entry{Position: r.Position(), Size: int32(r.Size()), TagHash: message.TagHash(r.Tag())}
		if due, ok := levels.RecordTag(r); ok {
			e.TagHash = due
		}
		keys := []string{fmt.Sprintf("%s/%d", r.Topic(), r.QueueID())}
		// Java leaves out retry topics.
		if lmq, ok := r.Property(message.PropInnerDispatch); ok && !strings.HasPrefix(r.Topic(), message.PrefixRetry) {
			for name := range strings.SplitSeq(lmq, ",") {
				keys = append(keys, name+"/0")
			}
		}
		for _, key := range keys {
			want[key] = append(want[key], e)
		}
	}
	return want
}

// wantIndex are the index entries that the records call for, in order, without
// chain and time.
func wantIndex(records []message.Record) (want []index.Entry) {
	for i := range records {
		r := &records[i]
		add := func(key string) {
			want = append(want, index.Entry{Hash: index.Hash(r.Topic(), key), Position: r.Position()})
		}
		if id := r.UniqueID(); id != "" {
			add(id)
		}
		for k := range r.Keys() {
			add(k)
		}
	}
	return want
}

// sameEntries compares queues and says little about the first difference.
func sameEntries(t *testing.T, want, have map[string][]consumequeue.Entry) {
	t.Helper()
	require.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(have)))
	for key, es := range want {
		for i := range min(len(es), len(have[key])) {
			require.Equal(t, es[i], have[key][i], "%s entry %d", key, i)
		}
		require.Len(t, have[key], len(es), "%s", key)
	}
}
