package store

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

func TestQuoteKeys(t *testing.T) {
	for in, want := range map[string]string{
		`{0:12,1 : 3}`:           `{"0":12,"1": 3}`,
		`{"a":{-1:2},"b":[1,2]}`: `{"a":{"-1":2},"b":[1,2]}`,
		`{"x\"1:":1.5e3}`:        `{"x\"1:":1.5e3}`,
		"{\n\t7:{0:1\n\t}}":      "{\n\t\"7\":{\"0\":1}}",
		`"unterminated`:          `"unterminated`,
		`{"a":-3, 4:"5:6"}`:      `{"a":-3, "4":"5:6"}`,
		`[true,null,12]`:         `[true,null,12]`,
	} {
		require.Equal(t, want, string(quoteKeys([]byte(in))), in)
	}
}

// bare makes a store, and then takes from its directory what is ours: what is left
// looks as if RocketMQ had written it.
func bare(t *testing.T) (dir string, put []message.Receipt, timer message.TimerID) {
	t.Helper()
	ctx := t.Context()
	dir = filepath.Join(t.TempDir(), "store")
	s, err := Open(dir, WithSegmentSize(64<<10), WithQueueFileSize(2000), WithIndexSizes(100, 400))
	require.NoError(t, err)
	defer s.Close()
	for i := range 300 {
		r, err := s.Put(ctx, &message.Message{Topic: "orders", QueueID: int32(i % 3), Body: make([]byte, i), Keys: []string{"k"}})
		require.NoError(t, err)
		put = append(put, r)
	}
	later, err := s.Put(ctx, &message.Message{Topic: "orders", Body: []byte("later"), Delay: time.Hour})
	require.NoError(t, err)
	_, err = s.Put(ctx, &message.Message{Topic: "gone", Body: []byte("x")})
	require.NoError(t, err)
	require.NoError(t, s.DeleteTopic(ctx, "gone"))
	require.NoError(t, s.Close())
	require.NoError(t, os.RemoveAll(filepath.Join(dir, dirState)))
	return dir, put, later.Timer
}

func writeConfig(t *testing.T, dir, name, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, javaFolder), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, javaFolder, name), []byte(text), 0o600))
}

func TestImport(t *testing.T) {
	dir, put, timer := bare(t)
	writeConfig(t, dir, "topics.json", `{"topicConfigTable":{"orders":{"perm":6,"readQueueNums":5,"writeQueueNums":4,"attributes":{"message.type":"MIXED"}},
		"TBW102":{"perm":7,"readQueueNums":8,"writeQueueNums":8},"DefaultCluster":{"perm":7,"readQueueNums":16,"writeQueueNums":16},"empty":{"perm":4,"readQueueNums":2,"writeQueueNums":2}}}`)
	writeConfig(t, dir, "consumerOffset.json", `not JSON`)
	writeConfig(t, dir, "consumerOffset.json.bak", `{"offsetTable":{"orders@billing":{0:41,1:7,2:1000,9:1},"nowhere@billing":{0:3},"orders@CID_RMQ_SYS_TRANS":{0:1}}}`)
	writeConfig(t, dir, "subscriptionGroup.json", `{"subscriptionGroupTable":{"billing":{"retryMaxTimes":3,"consumeEnable":true},"TOOLS_CONSUMER":{}}}`)
	ctx := context.Background()
	s, err := Open(dir)
	require.NoError(t, err)
	defer s.Close()
	im := s.Stats().Recovery.Import
	require.NotNil(t, im)
	require.Equal(t, 2, im.Topics)
	require.Equal(t, 1, im.Groups)
	require.Equal(t, 3, im.Offsets)
	require.EqualValues(t, 1, im.Pending)
	require.Len(t, im.LeftOut, 3, "%v", im.LeftOut)
	require.Equal(t, []Topic{
		{Name: "empty", ReadQueues: 2, WriteQueues: 2, Permission: PermRead},
		{Name: "orders", ReadQueues: 5, WriteQueues: 4, Permission: PermRead | PermWrite},
	}, s.Topics())
	for id, want := range []int64{41, 7, 100} {
		got, ok, err := s.Committed(ctx, "billing", message.Queue{Topic: "orders", ID: int32(id)})
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	g, ok := s.Progress().Group("billing")
	require.True(t, ok)
	require.Equal(t, 3, g.RetryMax)
	for _, r := range put {
		rec, err := s.At(ctx, r.Queue, r.Offset)
		require.NoError(t, err)
		require.Equal(t, r.Position, rec.Position())
	}
	how, err := s.Timers().Cancel(ctx, timer)
	require.NoError(t, err)
	require.Equal(t, "cancelled", how.String())
	report, err := s.Check(ctx)
	require.NoError(t, err)
	require.Empty(t, report.Damages)
	require.NoError(t, s.Close())

	s, err = Open(dir)
	require.NoError(t, err)
	require.Nil(t, s.Stats().Recovery.Import, "an import happens once")
	require.Zero(t, s.Timers().Len())
	require.NoError(t, s.Close())
}

// TestImportGoesOn: an import that was interrupted goes on with what it noted.
func TestImportGoesOn(t *testing.T) {
	dir, put, _ := bare(t)
	writeConfig(t, dir, "consumerOffset.json", `{"offsetTable":{"orders@billing":{0:41}}}`)
	s, err := Open(dir)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	// As if FORMAT had not been written yet: the queues are ours already, and what
	// was noted still stands.
	s2 := &Store{cfg: s.cfg}
	require.NoError(t, s2.openRoot(dir, false))
	require.NoError(t, s2.openFolders(dir, false))
	s2.imported, err = s2.survey()
	require.NoError(t, err)
	require.NoError(t, s2.writeImported())
	require.NoError(t, s2.releaseFolders())
	require.NoError(t, os.Remove(filepath.Join(dir, dirState, formatName)))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, javaFolder)))
	s, err = Open(dir)
	require.NoError(t, err)
	defer s.Close()
	require.NotNil(t, s.Stats().Recovery.Import)
	_, end, err := s.Bounds(put[0].Queue)
	require.NoError(t, err)
	require.EqualValues(t, 100, end)
	got, _, err := s.Committed(t.Context(), "billing", put[0].Queue)
	require.NoError(t, err)
	require.EqualValues(t, 41, got)
	require.NoError(t, s.Close())
	require.NoFileExists(t, filepath.Join(dir, dirState, importName))
}

// TestImportAgain: WithImport takes over what RocketMQ did in between.
func TestImportAgain(t *testing.T) {
	dir, _, _ := bare(t)
	s, err := Open(dir)
	require.NoError(t, err)
	require.EqualValues(t, 1, s.Timers().Len())
	require.NoError(t, s.Close())
	writeConfig(t, dir, "consumerOffset.json", `{"offsetTable":{"orders@late":{1:12}}}`)
	check := make([]byte, 4096)
	check[16], check[23] = 0x7f, 1 // a queue offset behind all of them
	check[0] = 0x7f                // and a time
	writeConfig(t, dir, "timercheck", string(check))
	s, err = Open(dir, WithImport())
	require.NoError(t, err)
	require.EqualValues(t, 1, s.Stats().Recovery.Import.TimersLeftOut)
	got, _, err := s.Committed(t.Context(), "late", message.Queue{Topic: "orders", ID: 1})
	require.NoError(t, err)
	require.EqualValues(t, 12, got)
	require.NoError(t, s.Close())
	s, err = Open(dir)
	require.NoError(t, err)
	require.Zero(t, s.Timers().Len())
	require.NoError(t, s.Close())
}

// TestImportUnsupported: what cannot be read is refused by name, and nothing is
// changed.
func TestImportUnsupported(t *testing.T) {
	for what, make := range map[string]func(dir string){
		"topic batchy": func(dir string) {
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "batchconsumequeue", "batchy", "0"), 0o700))
		},
		"topic other": func(dir string) {
			writeConfig(t, dir, "topics.json", `{"topicConfigTable":{"other":{"perm":6,"readQueueNums":1,"writeQueueNums":1,"attributes":{"queue.type":"BatchCQ"}}}}`)
		},
		"topic orders and of all others": func(dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, dirQueues, "CURRENT"), []byte("MANIFEST-000004\n"), 0o600))
		},
	} {
		dir, _, _ := bare(t)
		make(dir)
		_, err := Open(dir)
		require.ErrorIs(t, err, ErrUnsupported)
		require.ErrorContains(t, err, what)
		require.NoFileExists(t, filepath.Join(dir, dirState, importName))
		require.DirExists(t, filepath.Join(dir, dirQueues, "orders"))
	}
}
