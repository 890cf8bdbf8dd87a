package store_test

import (
	"hash/crc32"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// What the machine can do at most, measured beside what the store does. Every
// limit writes the bytes of the record that the store writes.

const limitFile = 64 << 20

// benchMessage is the message of a figure about keys: a tag, two keys, three properties.
func benchMessage(topic string, size int) *message.Message {
	return &message.Message{
		Topic: topic, Tag: "paid", Keys: []string{"order-4711", "customer-42"},
		Body:       make([]byte, size),
		Properties: map[string]string{"colour": "red", "size": "9", "region": "north"},
	}
}

// plainMessage has a tag and nothing else to index: what a row measures that
// does not name keys or properties.
func plainMessage(topic string, size int) *message.Message {
	return &message.Message{Topic: topic, Tag: "paid", Body: make([]byte, size)}
}

func benchRecord(tb testing.TB, m *message.Message) []byte {
	tb.Helper()
	var d message.Draft
	require.NoError(tb, d.Encode(m, message.Queue{Topic: m.Topic}, nil))
	d.Stamp(0, 0, 1)
	return d.Bytes()
}

// limitKind is how the room for the limit's writes is made.
type limitKind int

const (
	growing   limitKind = iota // a file that has no blocks yet, as a log does
	reserved                   // fallocate as a whole beforehand, not counted
	rewritten                  // the same cached pages again and again: no file system work at all
)

func (k limitKind) String() string { return [...]string{"growing", "reserved", "rewritten"}[k] }

// rawLog is a sequence of files without a log.
type rawLog struct {
	tb   testing.TB
	root fs.FS
	dir  string
	kind limitKind
	f    fs.File
	at   int64
	n    int
}

func newRawLog(tb testing.TB, dir string, kind limitKind) *rawLog {
	tb.Helper()
	root, err := fs.MakeOS(dir)
	require.NoError(tb, err)
	r := &rawLog{tb: tb, root: root, dir: dir, kind: kind}
	r.roll()
	return r
}

func (r *rawLog) roll() {
	if r.kind == rewritten && r.f != nil {
		r.at = 0
		return
	}
	if r.f != nil {
		require.NoError(r.tb, r.f.Close())
	}
	f, err := r.root.Open(strconv.Itoa(r.n), fs.Create)
	require.NoError(r.tb, err)
	require.NoError(r.tb, f.Truncate(limitFile))
	switch r.kind {
	case reserved:
		require.NoError(r.tb, f.Preallocate(0, limitFile))
	case rewritten:
		zeros := make([]byte, 1<<20)
		for at := int64(0); at < limitFile; at += int64(len(zeros)) {
			_, err := f.WriteAt(zeros, at)
			require.NoError(r.tb, err)
		}
		require.NoError(r.tb, f.Sync())
	}
	r.f, r.at = f, 0
	r.n++
}

func (r *rawLog) write(p []byte) error {
	if r.at+int64(len(p)) > limitFile {
		r.roll()
	}
	_, err := r.f.WriteAt(p, r.at)
	r.at += int64(len(p))
	return err
}

func (r *rawLog) close() {
	_ = r.f.Close()
	_ = r.root.Close()
	require.NoError(r.tb, os.RemoveAll(r.dir))
}

// gathered writes n copies of the record with one call, with both checksums of
// each: the limit of a batch.
func (r *rawLog) gathered(rec []byte, body, n int, buf []byte) ([]byte, error) {
	buf = buf[:0]
	for range n {
		sum := crc32.ChecksumIEEE(rec[:body])
		at := len(buf)
		buf = append(buf, rec...)
		rec[8] = byte(sum)
		buf[at] ^= byte(crc32.ChecksumIEEE(rec))
	}
	return buf, r.write(buf)
}

// idealCommit is group commit and nothing else, into a file of written zeros:
// gather, yield twice, one write, one fdatasync.
type idealCommit struct {
	raw *rawLog
	buf []byte

	mu   sync.Mutex
	busy bool
	data [][]byte
	wait []chan bool
}

func (it *idealCommit) append(p []byte, done chan bool) error {
	it.mu.Lock()
	it.data, it.wait = append(it.data, p), append(it.wait, done)
	lead := !it.busy
	it.busy = true
	it.mu.Unlock()
	if !lead && !<-done {
		return nil
	}
	runtime.Gosched()
	runtime.Gosched()
	it.mu.Lock()
	data, wait := it.data, it.wait
	it.data, it.wait = nil, nil
	it.mu.Unlock()
	it.buf = it.buf[:0]
	for _, d := range data {
		it.buf = append(it.buf, d...)
	}
	if err := it.raw.write(it.buf); err != nil {
		return err
	}
	if err := it.raw.f.SyncData(); err != nil {
		return err
	}
	for _, c := range wait {
		if c != done {
			c <- false
		}
	}
	it.mu.Lock()
	if len(it.wait) > 0 {
		it.wait[0] <- true
	} else {
		it.busy = false
	}
	it.mu.Unlock()
	return nil
}
