package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
)

// javaConfig is what RocketMQ's config folder says, as far as we take it over.
type javaConfig struct {
	Topics  []Topic
	Groups  []javaGroup
	Offsets []javaOffset
	Rule    importRule

	batchTopic string
}

type javaGroup struct {
	Name        string
	RetryMax    int
	RetryQueues int
	Disabled    bool
}

type javaOffset struct {
	Group, Topic string
	Queue        int32
	Offset       int64
}

const (
	javaFolder     = "config"
	javaTransGroup = "CID_RMQ_SYS_TRANS"
)

// readJavaConfig reads the files of RocketMQ's config folder that are there. What
// it leaves out on purpose it names.
func readJavaConfig(root fs.FS) (c javaConfig, left []string, err error) {
	dir := root.Sub(javaFolder)
	for _, read := range []func(fs.FS, *javaConfig) ([]string, error){readJavaTopics, readJavaGroups, readJavaOffsets, readJavaLevels, readTimerCheck} {
		more, err := read(dir, &c)
		if err != nil {
			return c, nil, err
		}
		left = append(left, more...)
	}
	return c, left, nil
}

// readJava parses one of RocketMQ's files into v. Like RocketMQ it takes the
// file's previous version when the file is missing, empty or does not parse.
func readJava(dir fs.FS, name string, v any) (found bool, err error) {
	var bad error
	for _, n := range []string{name, name + ".bak"} {
		b, err := fs.Read(dir, n)
		if errors.Is(err, iofs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("store: read %s: %w", dir.Path(n), err)
		}
		if len(strings.TrimSpace(string(b))) == 0 {
			continue
		}
		if err := json.Unmarshal(quoteKeys(b), v); err == nil {
			return true, nil
		} else if bad == nil {
			bad = &CorruptError{Path: dir.Path(n), Reason: "not RocketMQ's JSON", Err: err}
		}
	}
	return false, bad
}

// quoteKeys turns the numbers that RocketMQ writes as keys into strings.
func quoteKeys(b []byte) []byte {
	out := make([]byte, 0, len(b)+len(b)/8)
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			from := i
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			out = append(out, b[from:min(i+1, len(b))]...)
		case c == '-' || '0' <= c && c <= '9':
			from := i
			for i < len(b) && strings.IndexByte("+-.0123456789eE", b[i]) >= 0 {
				i++
			}
			end := i
			for i < len(b) && strings.IndexByte(" \t\r\n", b[i]) >= 0 {
				i++
			}
			if i < len(b) && b[i] == ':' {
				out = append(append(append(out, '"'), b[from:end]...), '"')
			} else {
				out = append(out, b[from:end]...)
			}
			i--
		default:
			out = append(out, c)
		}
	}
	return out
}

func readJavaTopics(dir fs.FS, c *javaConfig) (left []string, err error) {
	var f struct {
		TopicConfigTable map[string]struct {
			ReadQueueNums, WriteQueueNums, Perm int
			Attributes                          map[string]string
		}
	}
	if _, err := readJava(dir, "topics.json", &f); err != nil {
		return nil, err
	}
	for name, t := range f.TopicConfigTable {
		if t.Attributes["queue.type"] == "BatchCQ" {
			c.batchTopic = name
		}
		switch {
		case message.IsSystemTopic(name) || t.Perm&1 != 0 || name == "BenchmarkTest" || strings.HasSuffix(name, "_REPLY_TOPIC"):
			continue // RocketMQ's own: those of a broker and of its cluster are templates
		}
		tp := Topic{Name: name, ReadQueues: t.ReadQueueNums, WriteQueues: t.WriteQueueNums,
			Permission: Permission(t.Perm) & (PermRead | PermWrite), Kind: javaKinds[t.Attributes["message.type"]]}
		tp = tp.withDefaults(Topic{})
		if err := tp.check(); err != nil {
			left = append(left, fmt.Sprintf("topic %q: %v", name, err))
			continue
		}
		c.Topics = append(c.Topics, tp)
	}
	slices.SortFunc(c.Topics, func(a, b Topic) int { return strings.Compare(a.Name, b.Name) })
	return left, nil
}

var javaKinds = map[string]Kind{"NORMAL": KindNormal, "FIFO": KindOrdered, "DELAY": KindDelayed, "TRANSACTION": KindTransactional}

func readJavaGroups(dir fs.FS, c *javaConfig) (left []string, err error) {
	var f struct {
		SubscriptionGroupTable map[string]struct {
			ConsumeEnable                 *bool
			RetryMaxTimes, RetryQueueNums *int
		}
	}
	if _, err := readJava(dir, "subscriptionGroup.json", &f); err != nil {
		return nil, err
	}
	for name, g := range f.SubscriptionGroupTable {
		if isJavaGroup(name) {
			continue
		}
		if err := message.CheckGroup(name); err != nil {
			left = append(left, fmt.Sprintf("group %q: %v", name, err))
			continue
		}
		j := javaGroup{Name: name, Disabled: g.ConsumeEnable != nil && !*g.ConsumeEnable}
		if g.RetryMaxTimes != nil {
			if j.RetryMax = *g.RetryMaxTimes; j.RetryMax <= 0 {
				j.RetryMax = -1
			}
		}
		if g.RetryQueueNums != nil {
			j.RetryQueues = max(0, *g.RetryQueueNums)
		}
		c.Groups = append(c.Groups, j)
	}
	slices.SortFunc(c.Groups, func(a, b javaGroup) int { return strings.Compare(a.Name, b.Name) })
	return left, nil
}

// isJavaGroup reports whether a group is one of those that a broker makes.
func isJavaGroup(name string) bool {
	return strings.HasPrefix(name, "CID_RMQ_SYS_") || strings.HasPrefix(name, "CID_ONS") || strings.HasPrefix(name, "CID_HOUSEKEEPING") ||
		slices.Contains([]string{"TOOLS_CONSUMER", "FILTERSRV_CONSUMER", "SELF_TEST_C_GROUP", "__MONITOR_CONSUMER"}, name)
}

func readJavaOffsets(dir fs.FS, c *javaConfig) (left []string, err error) {
	var f struct{ OffsetTable map[string]map[string]int64 }
	if _, err := readJava(dir, "consumerOffset.json", &f); err != nil {
		return nil, err
	}
	for key, queues := range f.OffsetTable {
		topic, group, ok := strings.Cut(key, "@")
		if group == javaTransGroup {
			if topic == message.TopicHalf {
				c.Rule.HalfOffset = queues["0"]
			}
			continue
		}
		if !ok || message.CheckGroup(group) != nil {
			left = append(left, fmt.Sprintf("offsets of %q: not topic@group", key))
			continue
		}
		if message.IsSystemTopic(topic) || isJavaGroup(group) {
			continue
		}
		for id, offset := range queues {
			n, err := strconv.ParseInt(id, 10, 32)
			if err != nil || n < 0 || offset < 0 {
				left = append(left, fmt.Sprintf("offset %d of group %s in queue %s/%s", offset, group, topic, id))
				continue
			}
			c.Offsets = append(c.Offsets, javaOffset{group, topic, int32(n), offset})
		}
	}
	slices.SortFunc(c.Offsets, func(a, b javaOffset) int {
		return strings.Compare(fmt.Sprintf("%s %s %9d", a.Group, a.Topic, a.Queue), fmt.Sprintf("%s %s %9d", b.Group, b.Topic, b.Queue))
	})
	return left, nil
}

func readJavaLevels(dir fs.FS, c *javaConfig) (left []string, err error) {
	var f struct{ OffsetTable map[string]int64 }
	if _, err := readJava(dir, "delayOffset.json", &f); err != nil {
		return nil, err
	}
	for text, offset := range f.OffsetTable {
		level, err := strconv.Atoi(text)
		if err != nil || level < 1 || level > math.MaxUint8 {
			left = append(left, fmt.Sprintf("delay level %q", text))
			continue
		}
		for len(c.Rule.Levels) < level {
			c.Rule.Levels = append(c.Rule.Levels, 0)
		}
		c.Rule.Levels[level-1] = offset
	}
	return left, nil
}

func readTimerCheck(dir fs.FS, c *javaConfig) (left []string, err error) {
	const name = "timercheck"
	b, err := fs.Read(dir, name)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("store: read %s: %w", dir.Path(name), err)
	}
	if len(b) < 32 {
		return []string{"config/timercheck: too short"}, nil
	}
	be := binary.BigEndian
	c.Rule.Checked, c.Rule.LastRead, c.Rule.QueueOffset = true, int64(be.Uint64(b)), int64(be.Uint64(b[16:]))
	// A broker that has never run with the timer on leaves zeros.
	if c.Rule.LastRead == 0 && c.Rule.QueueOffset == 0 {
		c.Rule.Checked = false
	}
	return nil, nil
}
