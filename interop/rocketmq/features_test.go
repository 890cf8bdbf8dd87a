package rocketmq

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
)

// features is the set of what a generated store has.
type features uint32

const (
	emptyBodies features = 1 << iota
	largeBodies
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

var featureNames = []string{"empty bodies", "bodies to 64 KiB", "tags", "keys", "properties", "unicode", "compressed", "atomic groups", "V2 topics", "IPv6 host",
	"unique ids", "in cache", "many segments", "many queue files", "reopened", "deleted topic", "head deleted", "tail cut", "killed", "delayed", "half messages",
	"append CRC", "sync flush", "stale CRC", "multi dispatch"}

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

// print writes one line a feature: in how many stores it was, and in how few it
// met any other feature.
func (c *coverage) print(w io.Writer, title string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(w, "%s: %d stores\n", title, c.stores)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "  feature\tstores\trarest pair")
	for i, name := range featureNames {
		if c.single[i] == 0 {
			continue
		}
		low, with := c.stores+1, ""
		for k, other := range featureNames {
			if k != i && c.single[k] > 0 && c.pairs[i][k] < low {
				low, with = c.pairs[i][k], other
			}
		}
		fmt.Fprintf(tw, "  %s\t%d\t%d (%s)\n", name, c.single[i], low, with)
	}
	_ = tw.Flush()
}
