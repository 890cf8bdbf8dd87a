package consumer

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

var queue1, queue2 = message.Queue{Topic: "orders"}, message.Queue{Topic: "orders", ID: 3}

func localDir(tb testing.TB, opts ...Option) (localOptions, string) {
	tb.Helper()
	dir := tb.TempDir()
	o := newOptions(usePush, append([]Option{WithLocalOffsets(dir), WithInstance("10.0.0.5@one")}, opts...))
	require.NoError(tb, o.err())
	return o.local, filepath.Join(dir, "10.0.0.5@one", "g", "offsets.json")
}

func mustOpen(tb testing.TB, o localOptions) *localOffsets {
	tb.Helper()
	l, err := openLocal(o, "g")
	require.NoError(tb, err)
	return l
}

func place1(l *localOffsets) int64 {
	if next, ok := l.get(queue1); ok {
		return next
	}
	return -1
}

// forms runs a test for our own file and for RocketMQ's.
func forms(t *testing.T, f func(t *testing.T, opts ...Option)) {
	t.Run("form=ember", func(t *testing.T) { f(t) })
	t.Run("form=rocketmq", func(t *testing.T) { f(t, WithRocketMQOffsets("b")) })
}

func TestLocalOffsetsOutliveTheirConsumer(t *testing.T) {
	forms(t, func(t *testing.T, opts ...Option) {
		o, _ := localDir(t, opts...)
		l := mustOpen(t, o)
		require.Equal(t, int64(-1), place1(l), "a missing file is a first start")
		l.set(queue1, 7)
		l.set(queue2, 9)
		l.set(queue1, 5) // a seek
		require.NoError(t, l.close())
		require.NoError(t, l.close())

		l = mustOpen(t, o)
		require.Equal(t, map[message.Queue]int64{queue1: 5, queue2: 9}, l.offsets)
		require.NoError(t, l.close())
	})
}

func TestLocalOffsetsBroken(t *testing.T) {
	forms(t, func(t *testing.T, opts ...Option) {
		o, file := localDir(t, opts...)
		l := mustOpen(t, o)
		for _, next := range []int64{7, 8} {
			l.set(queue1, next)
			require.NoError(t, l.save())
		}
		require.NoError(t, l.close())
		whole, err := os.ReadFile(file)
		require.NoError(t, err)

		// Cut anywhere, the backup is read, and it stays whole when it is saved again.
		for n := range len(whole) - 2 {
			require.NoError(t, os.WriteFile(file, whole[:n], 0o600))
			l = mustOpen(t, o)
			require.Equal(t, int64(7), place1(l), "cut to %d bytes", n)
			require.True(t, l.restored)
			require.NoError(t, l.close())
		}
		require.NoError(t, os.WriteFile(file+".bak", []byte("{"), 0o600))
		_, err = openLocal(o, "g")
		require.ErrorIs(t, err, message.ErrCorrupt, "both are broken")
		require.NoError(t, os.Remove(file+".bak"))
		_, err = openLocal(o, "g")
		require.Error(t, err, "broken, and there is no backup")

		require.NoError(t, os.WriteFile(file, whole, 0o600))
		l = mustOpen(t, o)
		require.Equal(t, int64(8), place1(l))
		require.NoError(t, l.close())
	})
}

func TestLocalOffsetsMissing(t *testing.T) {
	forms(t, func(t *testing.T, opts ...Option) {
		o, file := localDir(t, opts...)
		l := mustOpen(t, o)
		for _, next := range []int64{7, 8} {
			l.set(queue1, next)
			require.NoError(t, l.save())
		}
		require.NoError(t, l.close())
		require.NoError(t, os.Remove(file))
		l = mustOpen(t, o)
		want := int64(-1)
		if o.rocketmq {
			want = 7 // Java may have been killed between removing and renaming
		}
		require.Equal(t, want, place1(l))
		require.NoError(t, l.close())
	})
}

func TestLocalOffsetsOfALaterVersion(t *testing.T) {
	o, file := localDir(t)
	require.NoError(t, mustOpen(t, o).close())
	later := []byte(`{"version":2,"groups":{}}`)
	require.NoError(t, os.WriteFile(file, later, 0o600))
	_, err := openLocal(o, "g")
	require.ErrorIs(t, err, message.ErrUnknownFormat)
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, later, b)
}

func TestLocalOffsetsRefuse(t *testing.T) {
	for name, text := range map[string]string{
		"another group":   `{"version":1,"group":"h","offsets":[]}`,
		"negative offset": `{"version":1,"group":"g","offsets":[{"topic":"t","queue":0,"offset":-1}]}`,
		"negative queue":  `{"version":1,"group":"g","offsets":[{"topic":"t","queue":-1,"offset":1}]}`,
		"no topic":        `{"version":1,"group":"g","offsets":[{"queue":0,"offset":1}]}`,
		"queue twice":     `{"version":1,"group":"g","offsets":[{"topic":"t","queue":0,"offset":1},{"topic":"t","queue":0,"offset":2}]}`,
		"no version":      `{"group":"g","offsets":[]}`,
		"trailing text":   `{"version":1,"group":"g","offsets":[]}x`,
		"a list":          `[]`,
		"nothing":         ``,
	} {
		_, err := emberForm{}.decode("g", []byte(text))
		require.Error(t, err, name)
	}
}

// TestLocalOffsetsOfRocketMQ reads what the Java and the Go client write, byte for
// byte as they do, and keeps what belongs to other brokers.
func TestLocalOffsetsOfRocketMQ(t *testing.T) {
	java := "{\n\t\"offsetTable\":{{\n\t\t\t\"brokerName\":\"b\",\n\t\t\t\"queueId\":3,\n\t\t\t\"topic\":\"orders\"\n\t\t}:123,{\"brokerName\":\"other\",\"queueId\":0,\"topic\":\"orders\"}:4\n\t}\n}"
	golang := `{"OffsetTable":{"{\"topic\":\"orders\",\"brokerName\":\"b\",\"queueId\":3}":123,"{\"topic\":\"orders\",\"brokerName\":\"other\",\"queueId\":0}":4}}`
	for name, text := range map[string]string{"java": java, "go": golang} {
		t.Run(name, func(t *testing.T) {
			o, file := localDir(t, WithRocketMQOffsets("b"))
			require.NoError(t, mustOpen(t, o).close())
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			l := mustOpen(t, o)
			require.Equal(t, map[message.Queue]int64{queue2: 123}, l.offsets)
			l.set(queue2, 124)
			require.NoError(t, l.close())
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, `{"offsetTable":{{"brokerName":"other","queueId":0,"topic":"orders"}:4,{"brokerName":"b","queueId":3,"topic":"orders"}:124}}`+"\n", string(b))
		})
	}
	for name, text := range map[string]string{
		"cut":      `{"offsetTable":{{"brokerName":"b","queueId":3,"topic":"t"}:1`,
		"trailing": `{"offsetTable":{}}}`,
		"no key":   `{"offsetTable":{:1}}`,
		"a word":   `{"offsetTable":{{"brokerName":"b","queueId":3,"topic":"t"}:one}}`,
		"a number": `7`,
	} {
		_, err := (&rocketForm{broker: "b"}).decode("g", []byte(text))
		require.Error(t, err, name)
	}
	empty, err := (&rocketForm{broker: "b"}).decode("g", []byte(`{"dataVersion":{"counter":1},"offsetTable":{}}`))
	require.NoError(t, err)
	require.Empty(t, empty)
}

func FuzzLocalOffsets(f *testing.F) {
	f.Add([]byte(`{"version":1,"group":"g","offsets":[{"topic":"t","queue":0,"offset":1}]}`))
	f.Add([]byte(`{"offsetTable":{{"brokerName":"b","queueId":3,"topic":"t"}:1}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, form := range []localForm{emberForm{}, &rocketForm{broker: "b"}} {
			offsets, err := form.decode("g", b)
			if err != nil {
				continue
			}
			again, err := form.encode("g", offsets)
			require.NoError(t, err)
			same, err := form.decode("g", again)
			require.NoError(t, err)
			require.Equal(t, offsets, same)
		}
	})
}

func TestLocalOffsetsLocked(t *testing.T) {
	o, _ := localDir(t)
	l := mustOpen(t, o)
	_, err := openLocal(o, "g")
	require.ErrorIs(t, err, message.ErrLocked)
	other := o
	other.instance = "two"
	two := mustOpen(t, other)
	require.NoError(t, two.close())
	require.NoError(t, l.close())
	require.NoError(t, mustOpen(t, o).close())
}

// TestLocalOffsetsFailingDisk fails every operation of a save in turn: what is on
// disk afterwards is the old place or the new one, and a later save succeeds.
func TestLocalOffsetsFailingDisk(t *testing.T) {
	forms(t, func(t *testing.T, opts ...Option) {
		fired := 1
		for after := 0; fired > 0; after++ {
			o, file := localDir(t, opts...)
			require.NoError(t, mustOpen(t, o).close())
			dir, err := fs.OS(filepath.Dir(file))
			require.NoError(t, err)
			faulty := fs.NewFaulty(dir)
			l, err := loadLocal(faulty, o, "g")
			require.NoError(t, err)
			for _, next := range []int64{7, 8} {
				l.set(queue1, next)
				require.NoError(t, l.save())
			}
			faulty.Fail(fs.Fault{After: after})
			l.set(queue1, 9)
			err = l.save()
			if fired = faulty.Fired(); fired > 0 {
				require.Error(t, err)
			}
			faulty.Heal()
			fresh, err := loadLocal(noLock{dir}, o, "g")
			require.NoError(t, err)
			require.Contains(t, []int64{8, 9}, place1(fresh))
			require.NoError(t, l.save())
			fresh, err = loadLocal(noLock{dir}, o, "g")
			require.NoError(t, err)
			require.Equal(t, int64(9), place1(fresh))
			require.NoError(t, l.close())
		}
	})
}

// noLock looks into a folder whose owner runs.
type noLock struct{ fs.FS }

func (noLock) Lock(string) (io.Closer, error) { return nil, fs.ErrUnsupported }

func TestLocalAlwaysLast(t *testing.T) {
	o, file := localDir(t, WithAlwaysLast())
	l := mustOpen(t, o)
	l.set(queue1, 7)
	require.Equal(t, int64(7), place1(l), "while it runs")
	require.NoError(t, l.close())
	require.NoFileExists(t, file)
	require.Equal(t, int64(-1), place1(mustOpen(t, o)))
}

func TestInstanceNames(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", `a\b`, "a:b", "dot.", "é", "a\x00"} {
		require.Error(t, newOptions(usePush, []Option{WithInstance(name)}).err(), "%q", name)
	}
	for _, name := range []string{"DEFAULT", "10.0.0.5@DEFAULT", "a-b_c.d"} {
		require.NoError(t, newOptions(usePush, []Option{WithInstance(name)}).err(), "%q", name)
	}
	_, err := openLocal(localOptions{dir: t.TempDir()}, "../g")
	require.ErrorIs(t, err, message.ErrInvalidName)
}
