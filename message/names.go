package message

import (
	"runtime"
	"strconv"
	"strings"
)

// Topics that only the store writes to.
const (
	// TopicSchedule holds messages delayed by level, one queue a level.
	TopicSchedule = "SCHEDULE_TOPIC_XXXX"
	// TopicTimer holds messages delayed to a time, in queue 0.
	TopicTimer = "rmq_sys_wheel_timer"
	// TopicHalf holds prepared messages of transactions.
	TopicHalf = "RMQ_SYS_TRANS_HALF_TOPIC"
	// TopicOpHalf holds the decisions on prepared messages.
	TopicOpHalf = "RMQ_SYS_TRANS_OP_HALF_TOPIC"
	// TopicCheckMax holds prepared messages that nobody ever decided.
	TopicCheckMax = "TRANS_CHECK_MAX_TIME_TOPIC"
	// TopicLost is the topic of fillers over damage that a repair laid aside.
	TopicLost = "EMBER_LOST"
	// TopicTopics holds deletions of topics, so that a rebuild does not bring
	// a deleted topic back.
	TopicTopics = "EMBER_TOPICS"
)

// Prefixes of the topics that belong to one group.
const (
	PrefixRetry = "%RETRY%"
	PrefixDead  = "%DLQ%"
)

const (
	maxTopic      = 127
	maxGroupTopic = 255 // retry and dead-letter topics carry a group's name
	maxGroup      = 120
)

// CheckTopic reports a *NameError unless name can be a topic: RocketMQ's
// characters, at most 127 of them (255 with the prefix of a retry or
// dead-letter topic). It does not ask whether the topic is a system topic.
func CheckTopic(name string) error {
	limit := maxTopic
	if strings.HasPrefix(name, PrefixRetry) || strings.HasPrefix(name, PrefixDead) {
		limit = maxGroupTopic
	}
	return checkName("topic", name, limit, runtime.GOOS == "windows")
}

// CheckGroup reports a *NameError unless name can be a consumer or producer
// group: RocketMQ's characters, at most 120 of them, and none of the two names
// that RocketMQ keeps for itself.
func CheckGroup(name string) error {
	if name == "DEFAULT_PRODUCER" || name == "DEFAULT_CONSUMER" {
		return &NameError{Kind: "group", Name: name, Reason: "reserved"}
	}
	return checkName("group", name, maxGroup, runtime.GOOS == "windows")
}

// checkName keeps everything out that could lead a path astray: names become
// folders below consumequeue.
func checkName(kind, name string, limit int, windows bool) error {
	fail := func(reason string) error {
		return &NameError{Kind: kind, Name: name, Reason: reason}
	}
	if name == "" {
		return fail("empty")
	}
	if len(name) > limit {
		return fail("longer than " + strconv.Itoa(limit) + " characters")
	}
	if name == "." || name == ".." {
		return fail("means a folder")
	}
	for i := range len(name) {
		if !nameByte(name[i]) {
			return fail("character " + strconv.QuoteRune(rune(name[i])) +
				" is not one of % | a-z A-Z 0-9 _ -")
		}
		if windows && name[i] == '|' {
			return fail("character '|' cannot be in a file name on Windows")
		}
	}
	if windows && isDeviceName(name) {
		return fail("is a device name on Windows")
	}
	return nil
}

func nameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '_' || c == '-' || c == '%' || c == '|'
}

func isDeviceName(name string) bool {
	switch up := strings.ToUpper(name); up {
	case "CON", "PRN", "AUX", "NUL":
		return true
	default:
		return len(up) == 4 && (up[:3] == "COM" || up[:3] == "LPT") &&
			'0' <= up[3] && up[3] <= '9'
	}
}

// FoldName returns what two names have in common that differ only in case: such
// twins share one folder on some file systems, so a store holds only one.
func FoldName(name string) string { return strings.ToLower(name) }

// IsSystemTopic reports whether only the store itself may put to the topic.
func IsSystemTopic(name string) bool {
	switch name {
	case TopicSchedule, TopicHalf, TopicOpHalf, TopicCheckMax, TopicLost, TopicTopics,
		"TBW102", "RMQ_SYS_TRACE_TOPIC", "SELF_TEST_TOPIC", "OFFSET_MOVED_EVENT", "CHECKPOINT_TOPIC":
		return true
	}
	return strings.HasPrefix(name, "rmq_sys_")
}
