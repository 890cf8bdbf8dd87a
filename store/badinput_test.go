package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

// as asks for a typed error and whether its fields are right.
func as[E error](right func(E) bool) func(error) bool {
	return func(err error) bool {
		var e E
		return errors.As(err, &e) && right(e)
	}
}

func invalid(field string) func(error) bool {
	return as(func(e *store.InvalidError) bool { return e.Field == field && e.Reason != "" })
}

func badName(kind, name string) func(error) bool {
	return as(func(e *store.NameError) bool { return e.Kind == kind && e.Name == name && e.Reason != "" })
}

func tooLarge(what string, size, limit int64) func(error) bool {
	return as(func(e *store.SizeError) bool {
		return e.What == what && (size == 0 || e.Size == size) && (limit == 0 || e.Limit == limit)
	})
}

func outside(offset, end int64) func(error) bool {
	return as(func(e *store.RangeError) bool {
		return e.Offset == offset && e.Start == 0 && e.End == end && e.Queue.Topic == "known"
	})
}

// Every bad input: the sentinel, the fields of the typed error, and a store that
// is byte for byte what it was.
func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(dir, store.WithMaxBody(10_000), store.WithSegmentSize(64<<10), store.WithMaxUnsynced(32<<10), store.WithoutGroupCreation())
	require.NoError(t, err)
	known := message.Queue{Topic: "known"}
	for range 3 {
		put(t, s, &message.Message{Topic: "known", Body: []byte("x")})
	}
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "readonly", Permission: store.PermRead}))
	require.NoError(t, s.CreateTopic(ctx, store.Topic{Name: "ordered", Kind: store.KindOrdered}))
	require.NoError(t, s.Progress().CreateGroup(ctx, groupNamed("group")))
	ended, cancel := context.WithCancel(ctx)
	cancel()

	putting := func(m message.Message) func() error {
		return func() error {
			_, err := s.Put(ctx, &m)
			_, async := s.PutAsync(ctx, &m).Wait(ctx)
			_, batch := s.PutBatch(ctx, []*message.Message{{Topic: "fresh"}, &m})
			if err == nil || async == nil || batch == nil || async.Error() != err.Error() {
				return errors.Join(errors.New("not refused everywhere alike"), async, batch)
			}
			if !strings.Contains(batch.Error(), "message 1 of the batch") {
				return batch
			}
			return err
		}
	}
	reading := func(q message.Queue, from int64) func() error {
		return func() error {
			_, err := s.Read(ctx, q, from, message.Limit{}, nil)
			_, scan := s.Scan(q, from, message.Limit{}, nil, func(*message.Record) error { return nil })
			if err == nil || scan == nil || scan.Error() != err.Error() {
				return errors.Join(errors.New("not refused everywhere alike"), err, scan)
			}
			return err
		}
	}
	committing := func(group string, q message.Queue, offset int64) func() error {
		return func() error { return s.Commit(ctx, group, map[message.Queue]int64{q: offset}) }
	}
	props := func(name, value string) message.Message {
		return message.Message{Topic: "fresh", Properties: map[string]string{name: value}}
	}
	long := strings.Repeat("n", 300)
	type row struct {
		name     string
		do       func() error
		sentinel error
		fields   func(error) bool
	}
	rows := []row{
		{"body over the limit", putting(message.Message{Topic: "fresh", Body: make([]byte, 10_001)}), store.ErrTooLarge, tooLarge("body", 10_001, 10_000)},
		{"properties over the limit", putting(props("p", strings.Repeat("v", 31_800))), store.ErrTooLarge, tooLarge("user properties", 31_803, 31_743)},
		{"separator 1 in a value", putting(props("p", "a\x01b")), store.ErrInvalidMessage, invalid("Properties[p]")},
		{"separator 2 in a name", putting(props("p\x02", "a")), store.ErrInvalidMessage, invalid("property name")},
		{"separator in the tag", putting(message.Message{Topic: "fresh", Tag: "a\x02"}), store.ErrInvalidMessage, invalid("Tag")},
		{"separator in a key", putting(message.Message{Topic: "fresh", Keys: []string{"a\x01"}}), store.ErrInvalidMessage, invalid("Keys")},
		{"empty value", putting(props("p", "")), store.ErrInvalidMessage, invalid("Properties[p]")},
		{"empty property name", putting(props("", "v")), store.ErrInvalidMessage, invalid("Properties")},
		{"reserved name of RocketMQ", putting(props("TAGS", "v")), store.ErrInvalidMessage, invalid("Properties[TAGS]")},
		{"reserved name of ours", putting(props("EMBER_GROUP", "v")), store.ErrInvalidMessage, invalid("Properties[EMBER_GROUP]")},
		{"reserved checksum", putting(props("__CRC32#", "v")), store.ErrInvalidMessage, invalid("Properties[__CRC32#]")},
		{"unknown durability", putting(message.Message{Topic: "fresh", Durability: 9}), store.ErrInvalidMessage, invalid("Durability")},
		{"nil message", func() error { _, err := s.PutBatch(ctx, []*message.Message{nil}); return err }, store.ErrInvalidMessage, invalid("Message")},
		{"queue that is not there", putting(message.Message{Topic: "known", QueueID: 4}), store.ErrNotFound, nil},
		{"negative queue", putting(message.Message{Topic: "known", QueueID: -1}), store.ErrNotFound, nil},
		{"queue a new topic would not have", putting(message.Message{Topic: "fresh", QueueID: 4}), store.ErrNotFound, nil},
		{"topic without write permission", putting(message.Message{Topic: "readonly"}), store.ErrPermission, nil},
		{"topic of another kind", putting(message.Message{Topic: "ordered"}), store.ErrKind, nil},
		{"topic of the store's own", putting(message.Message{Topic: message.TopicTopics}), store.ErrInvalidName, badName("topic", message.TopicTopics)},
		{"batch over the group's bytes", func() error {
			var ms []*message.Message
			for range 5 {
				ms = append(ms, &message.Message{Topic: "fresh", Body: make([]byte, 9_000)})
			}
			_, err := s.PutBatch(ctx, ms)
			return err
		}, store.ErrTooLarge, tooLarge("group", 0, 32<<10)},
		{"batch of a known topic over the group's bytes", func() error {
			var ms []*message.Message
			for range 5 {
				ms = append(ms, &message.Message{Topic: "known", Body: make([]byte, 9_000)})
			}
			_, err := s.PutBatch(ctx, ms)
			return err
		}, store.ErrTooLarge, tooLarge("group", 0, 32<<10)},
		{"batch over the group's number", func() error {
			_, err := s.PutBatch(ctx, make([]*message.Message, 65_536))
			return err
		}, store.ErrTooLarge, tooLarge("messages in a batch", 65_536, 65_535)},
		{"put, context ended", func() error { _, err := s.Put(ended, &message.Message{Topic: "known"}); return err }, context.Canceled, nil},
		{"read, context ended", func() error { _, err := s.Read(ended, known, 0, message.Limit{}, nil); return err }, context.Canceled, nil},
		{"read of an unknown topic", reading(message.Queue{Topic: "no"}, 0), store.ErrNotFound, nil},
		{"read of an unknown queue", reading(message.Queue{Topic: "known", ID: 4}, 0), store.ErrNotFound, nil},
		{"read of a negative queue", reading(message.Queue{Topic: "known", ID: -1}, 0), store.ErrNotFound, nil},
		{"read below the start", reading(known, -1), store.ErrOutOfRange, outside(-1, 3)},
		{"read beyond the end", reading(known, 4), store.ErrOutOfRange, outside(4, 3)},
		{"bounds of an unknown queue", func() error { _, _, err := s.Bounds(message.Queue{Topic: "no"}); return err }, store.ErrNotFound, nil},
		{"commit below zero", committing("group", known, -1), store.ErrOutOfRange, outside(-1, 3)},
		{"commit beyond the end", committing("group", known, 4), store.ErrOutOfRange, outside(4, 3)},
		{"commit of an unknown queue", committing("group", message.Queue{Topic: "known", ID: 9}, 0), store.ErrNotFound, nil},
		{"commit of an unknown group", committing("nobody", known, 1), store.ErrNotFound, nil},
		{"reset to an offset beyond the end", func() error { return s.ResetOffsets(ctx, "group", "known", message.At(5)) }, store.ErrOutOfRange, nil},
		{"topic with too many queues", func() error { return s.CreateTopic(ctx, store.Topic{Name: "many", WriteQueues: 65_537}) }, store.ErrInvalidMessage, invalid("ReadQueues")},
		{"topic of an unknown kind", func() error { return s.CreateTopic(ctx, store.Topic{Name: "kind", Kind: 77}) }, store.ErrInvalidMessage, invalid("Kind")},
		{"topic of an unknown permission", func() error { return s.CreateTopic(ctx, store.Topic{Name: "perm", Permission: 1}) }, store.ErrInvalidMessage, invalid("Permission")},
	}
	for _, name := range []string{"", long, "..", ".", "a/b", "../x", "a\\b", "a b", "ü", "a\x00", "Known", "KNOWN"} {
		rows = append(rows,
			row{"put to topic " + name, putting(message.Message{Topic: name}), store.ErrInvalidName, badName("topic", name)},
			row{"create topic " + name, func() error { return s.CreateTopic(ctx, store.Topic{Name: name}) }, store.ErrInvalidName, badName("topic", name)})
	}
	for _, name := range []string{"", long, "..", "a/b", "a b", "Group", "DEFAULT_CONSUMER"} {
		rows = append(rows, row{"create group " + name, func() error { return s.Progress().CreateGroup(ctx, groupNamed(name)) }, store.ErrInvalidName, badName("group", name)})
	}
	rows = append(rows, row{"second opener", func() error { _, err := store.Open(dir); return err }, store.ErrLocked,
		as(func(e *store.LockedError) bool { return e.PID == os.Getpid() && e.Dir == dir })})

	require.NoError(t, s.Checkpoint(ctx))
	quiet(t, s)
	before, topics := dirHash(t, dir), s.Topics()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			err := r.do()
			require.ErrorIs(t, err, r.sentinel)
			if r.fields != nil {
				require.True(t, r.fields(err), "%T: %v", err, err)
			}
			require.Equal(t, topics, s.Topics())
		})
	}
	require.NoError(t, s.Sync(ctx))
	require.Equal(t, before, dirHash(t, dir), "not a byte has changed")
	checkOK(t, s)
	require.NoError(t, s.Close())

	before = dirHash(t, dir)
	for name, err := range map[string]error{
		"Put":         second(s.Put(ctx, &message.Message{Topic: "known"})),
		"PutBatch":    second(s.PutBatch(ctx, []*message.Message{{Topic: "known"}})),
		"PutAsync":    second(s.PutAsync(ctx, &message.Message{Topic: "known"}).Wait(ctx)),
		"Read":        second(s.Read(ctx, known, 0, message.Limit{}, nil)),
		"Scan":        second(s.Scan(known, 0, message.Limit{}, nil, nil)),
		"Get":         second(s.Get(ctx, 0)),
		"OffsetAt":    second(s.OffsetAt(known, time.Now(), message.Lower)),
		"Sync":        s.Sync(ctx),
		"Commit":      s.Commit(ctx, "group", nil),
		"Reset":       s.ResetOffsets(ctx, "group", "known", message.First()),
		"CreateTopic": s.CreateTopic(ctx, store.Topic{Name: "t"}),
		"UpdateTopic": s.UpdateTopic(ctx, store.Topic{Name: "known"}),
		"DeleteTopic": s.DeleteTopic(ctx, "known"),
		"Check":       second(s.Check(ctx)),
		"QueueCount":  second(s.QueueCount("known")),
	} {
		require.ErrorIs(t, err, store.ErrClosed, name)
	}
	require.NoError(t, s.Close())
	require.Equal(t, before, dirHash(t, dir))
}

func second[T any](_ T, err error) error { return err }

// Directories that cannot be opened, and stay as they are.
func TestBadDirectory(t *testing.T) {
	full := t.TempDir()
	s := must(store.Open(full, store.WithSegmentSize(64<<10)))
	for range 150 {
		put(t, s, &message.Message{Topic: "t", Body: make([]byte, 1000)})
	}
	require.NoError(t, s.Close())
	write := func(dir, name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	segment, second64 := "00000000000000000000", "00000000000000065536"
	for _, c := range []struct {
		name     string
		prepare  func(dir string)
		opts     []store.Option
		sentinel error
		fields   func(error) bool
	}{
		{"another program's file", func(dir string) { clearDir(t, dir); write(dir, "notes.txt", "x") }, nil, store.ErrUnknownFormat, nil},
		{"another program's log", func(dir string) { clearDir(t, dir); write(dir, "commitlog/x", "x") }, nil, store.ErrUnknownFormat, nil},
		{"newer format", func(dir string) { write(dir, "ember/FORMAT", "embermq 2\nwhat=ever\n") }, nil, store.ErrUnknownFormat, nil},
		{"FORMAT is garbage", func(dir string) { write(dir, "ember/FORMAT", "hello\n") }, nil, store.ErrCorrupt, corruptAt("FORMAT", 0)},
		{"FORMAT with a flipped digit", func(dir string) {
			b := must(os.ReadFile(filepath.Join(dir, "ember/FORMAT")))
			write(dir, "ember/FORMAT", strings.Replace(string(b), "65520", "65540", 1))
		}, nil, store.ErrCorrupt, corruptAt("FORMAT", 0)},
		{"FORMAT is missing", func(dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "ember/FORMAT"))) }, nil, store.ErrCorrupt, corruptAt("FORMAT", 0)},
		{"synced is missing", func(dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "ember/synced"))) }, nil, store.ErrCorrupt, corruptAt("synced", 0)},
		{"segment is short", func(dir string) { require.NoError(t, os.Truncate(filepath.Join(dir, "commitlog", segment), 1000)) }, nil, store.ErrCorrupt, corruptAt(segment, 1000)},
		{"segment is long", func(dir string) { require.NoError(t, os.Truncate(filepath.Join(dir, "commitlog", segment), 65<<10)) }, nil, store.ErrCorrupt, corruptAt(segment, 64<<10)},
		{"segment in the middle is missing", func(dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "commitlog", second64))) }, nil, store.ErrCorrupt, nil},
		{"first segment is missing", func(dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "commitlog", segment))) }, nil, store.ErrCorrupt, corruptAt(segment, 0)},
		{"commitlog is missing", func(dir string) { require.NoError(t, os.RemoveAll(filepath.Join(dir, "commitlog"))) }, nil, store.ErrMissing, missing("commitlog")},
		{"commitlog is empty", func(dir string) { clearDir(t, filepath.Join(dir, "commitlog")) }, nil, store.ErrMissing, missing("commitlog")},
		{"meta is missing", func(dir string) { require.NoError(t, os.RemoveAll(filepath.Join(dir, "ember/meta"))) }, nil, store.ErrMissing, missing("ember/meta")},
		{"meta is empty", func(dir string) { clearDir(t, filepath.Join(dir, "ember/meta")) }, nil, store.ErrMissing, missing("ember/meta")},
		{"log on a disk that is not mounted", func(string) {}, []store.Option{store.WithFolders(store.Folders{CommitLog: "elsewhere/log"})}, store.ErrMissing, missing("commitlog")},
		{"meta on a disk that is not mounted", func(string) {}, []store.Option{store.WithFolders(store.Folders{Meta: "elsewhere/meta"})}, store.ErrMissing, missing("ember/meta")},
		{"other sizes", func(string) {}, []store.Option{store.RocketMQSizes()}, store.ErrMismatch, func(err error) bool {
			text := err.Error()
			return as(func(e *store.OptionMismatchError) bool {
				return e.Option == "commitlog.segment" && e.Stored == "65536" && e.Given == "1073741824"
			})(err) && strings.Contains(text, "consumequeue.file") && strings.Contains(text, "index.slots") && strings.Contains(text, "index.entries")
		}},
		{"several bad options", func(string) {}, []store.Option{store.WithSegmentSize(1), store.WithMaxBody(-1), store.WithWatermarks(store.Watermarks{Clean: 9, Force: 5, Full: 4})}, nil, func(err error) bool {
			text := err.Error()
			return strings.Contains(text, "WithSegmentSize") && strings.Contains(text, "WithMaxBody") && strings.Contains(text, "WithWatermarks")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a directory, ünïcode 目录")
			require.NoError(t, os.CopyFS(dir, os.DirFS(full)))
			c.prepare(dir)
			before := filesOf(t, dir)
			s, err := store.Open(dir, c.opts...)
			require.Nil(t, s)
			require.Error(t, err)
			if c.sentinel != nil {
				require.ErrorIs(t, err, c.sentinel)
			}
			if c.fields != nil {
				require.True(t, c.fields(err), "%T: %v", err, err)
			}
			require.Equal(t, before, filesOf(t, dir))
		})
	}
}

func corruptAt(name string, offset int64) func(error) bool {
	return as(func(e *store.CorruptError) bool {
		return filepath.Base(e.Path) == name && e.Offset == offset && e.Reason != ""
	})
}

func missing(folder string) func(error) bool {
	return as(func(e *store.MissingError) bool { return e.Folder == folder && e.Path != "" })
}

// A disk that became read-only: the open says so; one under an open store
// poisons it, and reads go on.
func TestReadOnlyDisk(t *testing.T) {
	dir := t.TempDir()
	s := must(store.Open(dir))
	put(t, s, &message.Message{Topic: "t", Body: []byte("x")})
	require.NoError(t, s.Close())
	before := filesOf(t, dir)
	var faulty *fs.Faulty
	e := env.Real()
	real := e.Open
	e.Open = func(path string, create bool) (fs.FS, error) {
		f, err := real(path, create)
		if err != nil {
			return nil, err
		}
		if faulty == nil {
			faulty = fs.NewFaulty(f)
		}
		return faulty, nil
	}
	const writes = fs.OpCreate | fs.OpWrite | fs.OpTruncate | fs.OpPreallocate | fs.OpRename | fs.OpLink | fs.OpRemove | fs.OpMkdir
	faulty = fs.NewFaulty(must(real(dir, false)))
	faulty.Fail(fs.Fault{Ops: writes, Times: -1, Err: syscall.EROFS})
	_, err := store.Open(dir, store.WithEnvironment(e))
	require.ErrorIs(t, err, syscall.EROFS)
	require.Equal(t, before, filesOf(t, dir))

	faulty = nil
	s = must(store.Open(dir, store.WithEnvironment(e)))
	put(t, s, &message.Message{Topic: "t", Body: []byte("y")})
	faulty.Fail(fs.Fault{Ops: writes, Name: "commitlog/", Times: -1, Err: syscall.EROFS})
	_, err = s.Put(ctx, &message.Message{Topic: "t"})
	require.ErrorIs(t, err, store.ErrPoisoned)
	require.ErrorIs(t, err, syscall.EROFS)
	_, err = s.Put(ctx, &message.Message{Topic: "t"})
	require.ErrorIs(t, err, store.ErrPoisoned)
	require.ErrorIs(t, s.Stats().Poisoned, syscall.EROFS)
	require.Len(t, read(t, s, message.Queue{Topic: "t"}, 0, nil), 2, "reads go on")
	require.Error(t, s.Close())
	s = open(t, dir)
	require.Len(t, read(t, s, message.Queue{Topic: "t"}, 0, nil), 2)
	checkOK(t, s)
}

// The log has room, the disk of the queues has none: puts go on as long as memory
// takes their entries, then they fail at once and do not hang; they go on when
// there is room.
func TestFullQueueDisk(t *testing.T) {
	var faulty *fs.Faulty
	e := env.Real()
	real := e.Open
	e.Open = func(path string, create bool) (fs.FS, error) {
		f, err := real(path, create)
		if err == nil && faulty == nil {
			faulty = fs.NewFaulty(f)
			return faulty, nil
		}
		return f, err
	}
	s := open(t, t.TempDir(), store.WithEnvironment(e), store.WithTailMemory(64<<10), store.WithDurability(message.InCache))
	faulty.Fail(fs.Fault{Ops: fs.OpCreate | fs.OpWrite, Name: "consumequeue/", Times: -1, Err: syscall.ENOSPC})
	n := int64(0)
	bounded, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for ; ; n++ {
		if _, err := s.Put(bounded, &message.Message{Topic: "t"}); err != nil {
			require.ErrorIs(t, err, store.ErrDiskFull)
			require.ErrorIs(t, err, syscall.ENOSPC)
			break
		}
	}
	require.Greater(t, n, int64(3000))
	require.Len(t, readAll(t, s, message.Queue{Topic: "t"}), int(n))
	faulty.Heal()
	settle(t, func() bool { _, err := s.Put(bounded, &message.Message{Topic: "t"}); return err == nil })
	checkOK(t, s)
}
