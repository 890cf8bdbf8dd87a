package rocketmq

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/stretchr/testify/require"
)

// features is the set of what a generated store has.
type features uint32

const (
	emptyBodies features = 1 << iota
	largeBodies
	hugeBodies
	tags
	keys
	properties
	unicode
	compressed
	batches
	longTopics
	ipv6Host
	uniqueIDs
	inCache
	manySegments
	manyQueueFiles
	reopened
	deletedTopic
	headDeleted
	tailCut
	killed
	delayed
	halves
	// Only stores that Java writes have these.
	javaCRC
	javaSync
	staleCRC
	multiDispatch
)

var featureNames = []string{"empty bodies", "bodies to 64 KiB", "bodies to 4 MiB", "tags", "keys", "properties", "unicode", "compressed", "atomic groups", "V2 topics", "IPv6 host",
	"unique ids", "in cache", "many segments", "many queue files", "reopened", "deleted topic", "head deleted", "tail cut", "killed", "delayed", "half messages",
	"append CRC", "sync flush", "stale CRC", "multi dispatch"}

// exclusive are the pairs that no store has. The second one is left out where both
// are drawn.
var exclusive = []struct {
	a, b features
	why  string
}{
	{tailCut, killed, "the store whose tail was torn is opened again, which cuts it, and closed"},
	{killed, headDeleted, "the tails of queues lie in a file of ours then, and RocketMQ cannot build them of what is deleted"},
	{hugeBodies, headDeleted, "retention would have to delete tens of MiB in each of them"},
	{staleCRC, javaCRC, "RocketMQ takes a stale checksum out when it writes its own"},
}

func excluded(a, b features) bool {
	for _, e := range exclusive {
		if a|b == e.a|e.b {
			return true
		}
	}
	return false
}

func (f features) has(x features) bool { return f&x != 0 }

func (f features) String() string {
	var names []string
	for i, name := range featureNames {
		if f.has(1 << i) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// coverage counts stores by feature and by pair of features.
type coverage struct {
	mu     sync.Mutex
	stores int
	single [32]int
	pairs  [32][32]int
}

func (c *coverage) add(f features) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stores++
	for i := range featureNames {
		for k := range featureNames {
			if f.has(1<<i) && f.has(1<<k) {
				c.pairs[i][k]++
			}
		}
		if f.has(1 << i) {
			c.single[i]++
		}
	}
}

// missing lists what too few of the stores had: a feature of all that fewer than
// ten had, a pair that none had.
func (c *coverage) missing(all features) (list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, name := range featureNames {
		if !all.has(1 << i) {
			continue
		}
		if c.single[i] < 10 {
			list = append(list, fmt.Sprintf("%s: %d stores", name, c.single[i]))
		}
		for k, other := range featureNames[:i] {
			if all.has(1<<k) && c.pairs[i][k] == 0 && !excluded(1<<i, 1<<k) {
				list = append(list, name+" with "+other)
			}
		}
	}
	return list
}

// print writes a line for each feature of all: in how many stores it was, and in
// how many it met each feature above it.
func (c *coverage) print(w io.Writer, title string, all features) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(w, "%s: %d stores\n", title, c.stores)
	tw := tabwriter.NewWriter(w, 0, 0, 1, ' ', tabwriter.AlignRight)
	for i, name := range featureNames {
		if !all.has(1 << i) {
			continue
		}
		fmt.Fprintf(tw, "  %s\t%d\t |", name, c.single[i])
		for k := range featureNames[:i] {
			switch {
			case !all.has(1 << k):
			case excluded(1<<i, 1<<k):
				fmt.Fprint(tw, "\t-")
			default:
				fmt.Fprintf(tw, "\t%d", c.pairs[i][k])
			}
		}
		fmt.Fprintln(tw, "\t")
	}
	_ = tw.Flush()
	for _, e := range exclusive {
		if all&(e.a|e.b) == e.a|e.b {
			fmt.Fprintf(w, "  never %v: %s\n", e.a|e.b, e.why)
		}
	}
}

// require prints the table when the test is verbose, and fails where so many
// stores were made that each feature and each pair should have been among them.
func (c *coverage) require(t *testing.T, title string, all features) {
	t.Helper()
	if testing.Verbose() {
		c.print(os.Stdout, title, all)
	}
	if c.stores >= 200 {
		require.Empty(t, c.missing(all), "no store had these; seed %d", *seedFlag)
	}
}
