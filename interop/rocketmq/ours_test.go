package rocketmq

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/commitlog"
	"github.com/embermq/embermq/consumequeue"
	"github.com/embermq/embermq/index"
	"github.com/embermq/embermq/interop/rocketmq/oracle"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

const ourFeatures = emptyBodies | largeBodies | hugeBodies | tags | keys | properties | unicode | compressed | batches | longTopics | ipv6Host |
	uniqueIDs | inCache | manySegments | manyQueueFiles | reopened | deletedTopic | headDeleted | tailCut | killed | delayed | halves

// TestOurs: what we write, Java reads; what Java adds, we read; and then Java
// reads all of it again. A copy of each store without queues and index shows
// that Java builds the same ones.
func TestOurs(t *testing.T) {
	t.Parallel()
	java(t)
	var covered coverage
	inBatches(t, ourFeatures, 2, func(t *testing.T, plans []plan) {
		runOurs(t, plans)
		for _, p := range plans {
			covered.add(p.Features)
		}
	})
	covered.require(t, "ours → theirs → ours", ourFeatures)
}

// ourStore is one store on its way through the test.
type ourStore struct {
	plan
	model  *model
	before *ourView           // what we say before Java has seen the directory
	files  *derived           // our queue and index files
	theirs *view              // what Java says
	walk   oracle.Walk        // what Java's recovery says about every record
	key    map[string][]int64 // what Java's index says
	copied *view              // what Java says about the copy
	added  []oracle.Message   // what Java put
	got    []oracle.Receipt   // and where it went
	crc    bool               // Java adds checksums
}

func runOurs(t *testing.T, plans []plan) {
	t.Helper()
	models := writeOurs(t, plans)
	var all []*ourStore
	for i, p := range plans {
		o := &ourStore{plan: p, model: models[i], crc: rand.New(rand.NewPCG(p.Seed, 9)).IntN(2) == 0}
		ok := t.Run(fmt.Sprintf("store %d written", p.Number), func(t *testing.T) {
			report(t, p)
			o.before = lookOurs(t, p)
			o.matchModel(t)
			o.files = readDerived(t, p)
			o.copyWithoutViews(t)
		})
		if ok {
			all = append(all, o)
		}
	}
	j, doomed := java(t), ownJava(t)
	all = visitAll(t, all, func(o *ourStore) error {
		if o.Number%2 == 0 {
			return o.visit(t.Context(), j, true)
		}
		return o.visit(t.Context(), doomed, false)
	})
	require.NoError(t, doomed.Halt())
	for _, o := range all {
		t.Run(fmt.Sprintf("store %d read by Java", o.Number), func(t *testing.T) {
			report(t, o.plan)
			o.compare(t)
			o.compareRebuilt(t)
		})
	}
	var again []*ourStore
	for _, o := range all {
		if t.Run(fmt.Sprintf("store %d back", o.Number), func(t *testing.T) {
			report(t, o.plan)
			o.back(t)
		}) {
			again = append(again, o)
		}
	}
	visitAll(t, again, func(o *ourStore) error { return o.visitAgain(t.Context(), j) })
}

// visitAll lets Java visit the stores side by side and returns those that went
// well.
func visitAll(t *testing.T, all []*ourStore, visit func(*ourStore) error) (good []*ourStore) {
	t.Helper()
	errs := sideBySide(len(all), func(i int) error { return visit(all[i]) })
	for i, o := range all {
		if errs[i] == nil {
			good = append(good, o)
			continue
		}
		t.Errorf("%v: %v", o.plan, errs[i])
	}
	return good
}

// ourView is what our store says about its queues.
type ourView struct {
	start, end map[string]int64
	records    map[string][]message.Record
}

func keyOf(q message.Queue) string { return q.String() }

// lookOurs reads a store without changing it. One whose head was deleted is
// read in a copy that is opened for writing: beside the log's start, the starts
// of its queues are known to the writer only.
func lookOurs(t *testing.T, p plan) *ourView {
	t.Helper()
	open, dir := store.OpenReadOnly, p.Dir
	if p.Features.has(headDeleted) {
		open, dir = store.Open, filepath.Join(t.TempDir(), "store")
		require.NoError(t, os.CopyFS(dir, os.DirFS(p.Dir)))
	}
	s, err := open(dir, store.WithRetention(0))
	require.NoError(t, err)
	defer s.Close()
	return readOurs(t, s)
}

func readOurs(t *testing.T, s *store.Store) *ourView {
	t.Helper()
	v := &ourView{start: make(map[string]int64), end: make(map[string]int64), records: make(map[string][]message.Record)}
	for _, topic := range s.Topics() {
		for id := range int32(topic.ReadQueues) {
			q := message.Queue{Topic: topic.Name, ID: id}
			start, end, err := s.Bounds(q)
			require.NoError(t, err)
			key := keyOf(q)
			v.start[key], v.end[key] = start, end
			for at := start; at < end; {
				// Scan gives bodies as they are stored, Read inflates them.
				next, err := s.Scan(q, at, message.Limit{Count: 1000}, nil, func(r *message.Record) error {
					v.records[key] = append(v.records[key], r.Clone())
					return nil
				})
				require.NoError(t, err)
				require.Greater(t, next, at)
				at = next
			}
		}
	}
	return v
}

// matchModel: before anything else, our own store holds what was put.
func (o *ourStore) matchModel(t *testing.T) {
	t.Helper()
	// Retention is background work and may have gone on after the last look.
	var err error
	o.model.Start, err = strconv.ParseInt(fileNames(t, filepath.Join(o.Dir, "commitlog"))[0], 10, 64)
	require.NoError(t, err)
	if o.Features.has(headDeleted) {
		end, err := logEnd(o.plan)
		require.NoError(t, err)
		require.GreaterOrEqual(t, end, o.model.End)
		o.model.End = end
	}
	want := make(map[string][]sent)
	for _, s := range o.model.Sent {
		if s.Position >= o.model.Start {
			want[keyOf(s.Queue)] = append(want[keyOf(s.Queue)], s)
		}
	}
	for key, ws := range want {
		have := o.before.records[key]
		require.Equal(t, len(ws), len(have), key)
		for i, w := range ws {
			r := &have[i]
			require.Equal(t, w.Offset, r.Offset())
			require.Equal(t, w.Position, r.Position())
			require.Equal(t, w.StoredAt, r.StoredAtMillis())
			require.Equal(t, string(w.Message.Body), string(r.Body()))
			props := maps.Collect(r.Properties())
			maps.DeleteFunc(props, func(name, _ string) bool { return slices.Contains(ownProperties, name) })
			require.Equal(t, wantProperties(w.Message), props)
		}
	}
}

func (o *ourStore) copyDir() string { return o.Dir + "-copy" }

// copyWithoutViews copies the directory without what can be built again, as a
// crash would leave it: Java then builds it.
func (o *ourStore) copyWithoutViews(t *testing.T) {
	t.Helper()
	require.NoError(t, os.CopyFS(o.copyDir(), os.DirFS(o.Dir)))
	for _, name := range []string{"consumequeue", "index", "checkpoint"} {
		require.NoError(t, os.RemoveAll(filepath.Join(o.copyDir(), name)))
	}
	require.NoError(t, os.WriteFile(filepath.Join(o.copyDir(), "abort"), []byte("1"), 0o600))
}

// visit is Java's first look at the directory and at its copy. It closes the
// directory or leaves it open for a halt.
func (o *ourStore) visit(ctx context.Context, j *oracle.JVM, end bool) error {
	c := o.config()
	c.AppendCRC, c.ForceCRC = o.crc, true
	s, err := j.Open(ctx, c)
	if err != nil {
		return err
	}
	if !s.Loaded {
		return fmt.Errorf("load() is false")
	}
	if o.walk, err = s.Verify(ctx); err != nil {
		return err
	}
	if o.theirs, err = look(ctx, s); err != nil {
		return err
	}
	o.key = make(map[string][]int64)
	for _, m := range o.model.Sent {
		for _, k := range m.Message.Keys {
			name := m.Queue.Topic + " " + k
			if _, ok := o.key[name]; ok {
				continue
			}
			rs, err := s.Query(ctx, m.Queue.Topic, k, 64, 0, math.MaxInt64)
			if err != nil {
				return err
			}
			o.key[name] = []int64{}
			for _, r := range rs {
				if slices.Contains(strings.Split(r.Properties["KEYS"], " "), k) && r.Topic == m.Queue.Topic {
					o.key[name] = append(o.key[name], r.Position)
				}
			}
			slices.Sort(o.key[name])
			o.key[name] = slices.Compact(o.key[name])
		}
	}
	if err := o.appendJava(ctx, s); err != nil {
		return err
	}
	c = o.config()
	c.Dir = o.copyDir()
	copied, err := j.Open(ctx, c)
	if err != nil {
		return err
	}
	if !copied.Loaded {
		return fmt.Errorf("load() of the copy is false")
	}
	if o.copied, err = look(ctx, copied); err != nil {
		return err
	}
	if err := copied.Close(ctx); err != nil || !end {
		return err
	}
	return s.Close(ctx)
}

// appendJava lets Java put messages behind ours, some of them with a checksum
// that was copied from elsewhere.
func (o *ourStore) appendJava(ctx context.Context, s *oracle.Store) error {
	r := rand.New(rand.NewPCG(o.Seed, 5))
	for range 10 {
		m := o.javaMessage(o.next(r))
		if !o.crc && r.IntN(3) == 0 {
			m.Properties["__CRC32#"] = "0123456789"
			m.Properties["EMBER_GROUP"] = "00000000000000000005"
		}
		o.added = append(o.added, m)
	}
	got, err := s.Put(ctx, o.added...)
	if err != nil {
		return err
	}
	for _, g := range got {
		if !g.OK() {
			return fmt.Errorf("Java's put: %+v", g)
		}
	}
	o.got = got
	return nil
}

// compare puts Java's first look beside ours.
func (o *ourStore) compare(t *testing.T) {
	t.Helper()
	require.Empty(t, o.walk.Reason, "Java refuses the record at %d", o.walk.End)
	require.Equal(t, o.model.End, o.walk.End)
	require.Equal(t, o.model.Start, o.theirs.start)
	require.Equal(t, o.model.End, o.theirs.end)
	listed := make(map[string]bool)
	for _, q := range o.theirs.queues {
		key := fmt.Sprintf("%s/%d", q.Topic, q.Queue)
		listed[key] = true
		if message.IsSystemTopic(q.Topic) || o.wasDeleted(q.Topic) {
			continue
		}
		require.Equal(t, o.before.end[key], q.End, "end of %s", key)
		require.Equal(t, o.before.start[key], q.Start, "start of %s", key)
		theirs := o.theirs.records[key]
		require.Equal(t, len(o.before.records[key]), len(theirs), key)
		for i := range theirs {
			equalRecord(t, &theirs[i], &o.before.records[key][i])
			require.Equal(t, theirs[i].Raw, o.before.records[key][i].Bytes())
		}
		o.compareTimes(t, key)
	}
	for key, end := range o.before.end {
		require.True(t, end == 0 || listed[key] || o.wasDeleted(key), "Java does not know %s", key)
	}
	o.compareKeys(t)
}

// wasDeleted reports whether a topic, or the topic of a queue, was deleted. Java
// knows nothing of that: what it makes of such a topic is not compared.
func (o *ourStore) wasDeleted(name string) bool {
	topic, _, _ := strings.Cut(name, "/")
	return slices.Contains(o.model.Dead, topic)
}

// compareTimes: the offsets by time are equal except where our contract differs
// on purpose.
func (o *ourStore) compareTimes(t *testing.T, key string) {
	t.Helper()
	records := o.before.records[key]
	start, end := o.before.start[key], o.before.end[key]
	for i, at := range o.theirs.times[key] {
		n, _ := slices.BinarySearchFunc(records, at, func(r message.Record, at int64) int {
			if r.StoredAtMillis() < at {
				return -1
			}
			return 1
		})
		require.Equal(t, start+int64(n), o.theirs.lower[key][i], "%s lower %d", key, at)
		n, _ = slices.BinarySearchFunc(records, at, func(r message.Record, at int64) int {
			if r.StoredAtMillis() <= at {
				return -1
			}
			return 1
		})
		require.Equal(t, max(start+int64(n)-1, start), o.theirs.upper[key][i], "%s upper %d of %d..%d", key, at, start, end)
	}
}

// compareKeys: Java finds by key what was put with it. Of a store that was
// killed Java drops the index and builds it again only for the last files.
func (o *ourStore) compareKeys(t *testing.T) {
	t.Helper()
	want := make(map[string][]int64)
	for _, s := range o.model.Sent {
		for _, k := range s.Message.Keys {
			name := s.Queue.Topic + " " + k
			if s.Position >= o.model.Start && !slices.Contains(want[name], s.Position) {
				want[name] = append(want[name], s.Position)
			}
		}
	}
	for name, positions := range want {
		if topic, _, _ := strings.Cut(name, " "); o.wasDeleted(topic) {
			continue
		}
		if o.Features.has(killed) {
			require.Subset(t, positions, o.key[name], name)
			continue
		}
		require.Equal(t, positions, o.key[name], name)
	}
}

// derived are the files that are built from the log.
type derived struct {
	entries map[string][]consumequeue.Entry
	first   map[string]int64
	headers []index.Header
	index   [][]index.Entry
}

func readDerived(t *testing.T, p plan) *derived {
	t.Helper()
	d := new(derived)
	d.entries, d.first = walkQueues(t, p)
	d.headers, d.index = walkIndex(t, p)
	return d
}

// compareRebuilt: queues and index that Java has built from our log are ours.
// What may differ: pre-blank entries before a queue's start, topics that were
// deleted, and what retention has taken from the index.
func (o *ourStore) compareRebuilt(t *testing.T) {
	t.Helper()
	for key, records := range o.before.records {
		if o.wasDeleted(key) {
			continue
		}
		theirs := o.copied.records[key]
		require.Equal(t, len(records), len(theirs), key)
		for i := range theirs {
			require.Equal(t, theirs[i].Raw, records[i].Bytes())
		}
	}
	if o.Features.has(killed) {
		return // our files are behind the log
	}
	p := o.plan
	p.Dir = o.copyDir()
	theirs := readDerived(t, p)
	for key := range o.before.end {
		if o.wasDeleted(key) {
			continue
		}
		for at := o.before.start[key]; at < o.before.end[key]; at++ {
			ours := o.files.entries[key][at-o.files.first[key]]
			require.Equal(t, theirs.entries[key][at-theirs.first[key]], ours, "%s entry %d", key, at)
		}
		if ours := int64(len(o.files.entries[key])) + o.files.first[key]; len(o.files.entries[key]) > 0 {
			require.Equal(t, o.before.end[key], ours, key)
		}
	}
	if o.Features.has(headDeleted | deletedTopic) {
		return
	}
	if len(theirs.headers) == 1 && len(theirs.index[0]) == 0 {
		require.Empty(t, o.files.headers) // Java makes a file before there is a key
		return
	}
	// Java names an index file by the millisecond. Of two that are filled within
	// one, as small ones may be in a rebuild, the second is lost.
	n := min(len(theirs.headers), len(o.files.headers))
	require.Equal(t, theirs.headers, o.files.headers[:n])
	require.Equal(t, theirs.index, o.files.index[:n])
}

// back opens the directory again after Java, whether it has closed it or was
// killed, and finds one log that goes on.
func (o *ourStore) back(t *testing.T) {
	t.Helper()
	s, err := store.Open(o.Dir, store.WithRetention(0))
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	rec := s.Stats().Recovery
	if o.crc && o.Features.has(killed) {
		require.Empty(t, rec.Foreign, "behind an unclean end records with checksums are as good as ours")
	} else {
		require.Equal(t, []commitlog.Range{{From: o.got[0].Position, To: rec.End}}, rec.Foreign)
	}
	v := readOurs(t, s)
	for key, records := range o.before.records {
		have := v.records[key]
		require.GreaterOrEqual(t, len(have), len(records), key)
		for i := range records {
			require.Equal(t, records[i].Bytes(), have[i].Bytes(), "%s %d", key, i)
		}
	}
	for i, g := range o.got {
		q := message.Queue{Topic: o.added[i].Topic, ID: o.added[i].Queue}
		r, err := s.Get(t.Context(), g.Position)
		require.NoError(t, err)
		require.Equal(t, string(o.added[i].Body), string(r.Body()))
		require.Equal(t, r.Position()+int64(r.Size()) == rec.End, i == len(o.got)-1)
		if o.wasDeleted(q.Topic) {
			continue
		}
		inQueue := slices.IndexFunc(v.records[keyOf(q)], func(r message.Record) bool { return r.Position() == g.Position })
		require.GreaterOrEqual(t, inQueue, 0)
		require.Equal(t, g.Offset, v.start[keyOf(q)]+int64(inQueue))
		for k := range r.Keys() {
			require.Contains(t, o.find(t, s, q.Topic, k), g.Position)
		}
	}
	for name, want := range o.key {
		if topic, k, _ := strings.Cut(name, " "); !o.wasDeleted(topic) {
			require.Subset(t, o.find(t, s, topic, k), want)
		}
	}
	got, err := s.Put(t.Context(), &message.Message{Topic: "orders", Body: []byte("after Java"), Keys: []string{"after"}})
	require.NoError(t, err)
	require.Equal(t, v.end["orders/0"], got.Offset)
	o.model.End = s.Stats().Log.Appended
	if o.Features.has(deletedTopic) {
		// Java begins at 0 again in a queue that is empty since its topic was
		// deleted.
		return
	}
	report, err := s.Check(t.Context())
	require.NoError(t, err)
	require.Empty(t, report.Damages)
}

func (o *ourStore) find(t *testing.T, s *store.Store, topic, key string) (positions []int64) {
	t.Helper()
	for r, err := range s.Find(t.Context(), index.Query{Topic: topic, Key: key, Limit: 1000}) {
		require.NoError(t, err)
		positions = append(positions, r.Position())
	}
	return positions
}

// visitAgain is Java's look at a log that both have written.
func (o *ourStore) visitAgain(ctx context.Context, j *oracle.JVM) error {
	c := o.config()
	c.AppendCRC, c.ForceCRC = o.crc, o.crc
	s, err := j.Open(ctx, c)
	if err != nil {
		return err
	}
	if !s.Loaded {
		return fmt.Errorf("load() is false after our second turn")
	}
	w, err := s.Verify(ctx)
	if err != nil {
		return err
	}
	if w.Reason != "" || w.End != o.model.End {
		return fmt.Errorf("the log ends at %d for us, at %d for Java %s", o.model.End, w.End, w.Reason)
	}
	for i, g := range o.got {
		if o.wasDeleted(o.added[i].Topic) {
			continue
		}
		rs, _, err := s.Read(ctx, o.added[i].Topic, o.added[i].Queue, g.Offset, false)
		if err != nil {
			return err
		}
		if len(rs) == 0 || rs[0].Position != g.Position {
			return fmt.Errorf("Java does not find its message %d again", i)
		}
	}
	return s.Close(ctx)
}
