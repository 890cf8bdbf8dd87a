package consumequeue

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"

	"github.com/stretchr/testify/require"
)

// example returns the bytes of a page's one block of hexadecimal digits; what
// follows two spaces on a line is a remark.
func example(t *testing.T, page string) []byte {
	t.Helper()
	text, err := os.ReadFile("../docs/format/" + page)
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(text), "```hex\n")
	require.True(t, ok)
	block, _, ok := strings.Cut(rest, "```")
	require.True(t, ok)
	var digits strings.Builder
	for line := range strings.Lines(block) {
		bytes, _, _ := strings.Cut(line, "  ")
		digits.WriteString(strings.ReplaceAll(strings.TrimSpace(bytes), " ", ""))
	}
	b, err := hex.DecodeString(digits.String())
	require.NoError(t, err)
	return b
}

// The worked examples of the format pages are what the code writes.
func TestFormatPages(t *testing.T) {
	sim := memory(t)
	o := manual()
	var synced int64 = 100
	o.Synced = func() int64 { return synced }
	s := open(t, sim, o)
	q := s.Queue(message.Queue{Topic: "T", ID: 3})
	q.Append(1, Entry{Position: 0, Size: 100, TagHash: message.TagHash("TagA")})
	q.Append(2, Entry{Position: 100, Size: 150, TagHash: 0})
	require.NoError(t, s.Flush())
	save(t, s, 250)
	image, err := fs.Read(sim.FS(), "ember/queues")
	require.NoError(t, err)
	require.Equal(t, hex.Dump(image), hex.Dump(example(t, "queues.md")))
	file, err := fs.Read(sim.FS(), "consumequeue/T/3/00000000000000000000")
	require.NoError(t, err)
	require.Equal(t, hex.Dump(file[:60]), hex.Dump(example(t, "consumequeue.md")))
	require.Empty(t, bytes.Trim(file[40:], "\x00"))
}
