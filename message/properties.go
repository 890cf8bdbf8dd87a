package message

import (
	"strconv"
	"strings"
)

// Names of properties that have a meaning. On disk. Do not change.
//
// Those of the first block are RocketMQ's. Those of the second are ours; the
// ones that start with EMBER_ begin with the position of the record they stand
// in and are ignored elsewhere.
const (
	PropTags            = "TAGS"
	PropKeys            = "KEYS"
	PropUniqKey         = "UNIQ_KEY"
	PropWait            = "WAIT"
	PropDelay           = "DELAY"
	PropRealTopic       = "REAL_TOPIC"
	PropRealQueue       = "REAL_QID"
	PropTranMsg         = "TRAN_MSG"
	PropProducerGroup   = "PGROUP"
	PropTransactionID   = "__transactionId__"
	PropTranQueueOffset = "TRAN_PREPARED_QUEUE_OFFSET"
	PropTranChecks      = "TRANSACTION_CHECK_TIMES"
	PropCheckImmunity   = "CHECK_IMMUNITY_TIME_IN_SECONDS"
	PropRetryTopic      = "RETRY_TOPIC"
	PropOriginID        = "ORIGIN_MESSAGE_ID"
	PropReconsumeTime   = "RECONSUME_TIME"
	PropMaxReconsume    = "MAX_RECONSUME_TIMES"
	PropTimerDelaySec   = "TIMER_DELAY_SEC"
	PropTimerDelayMs    = "TIMER_DELAY_MS"
	PropTimerDeliverMs  = "TIMER_DELIVER_MS"
	PropTimerOutMs      = "TIMER_OUT_MS"
	PropTimerEnqueueMs  = "TIMER_ENQUEUE_MS"
	PropTimerDequeueMs  = "TIMER_DEQUEUE_MS"
	PropTimerRollTimes  = "TIMER_ROLL_TIMES"
	PropTimerDelUniq    = "TIMER_DEL_UNIQKEY"
	PropTimerLevel      = "TIMER_DELAY_LEVEL"
	PropInnerNum        = "INNER_NUM"
	PropInnerBase       = "INNER_BASE"
	PropInnerDispatch   = "INNER_MULTI_DISPATCH"
	PropInnerOffset     = "INNER_MULTI_QUEUE_OFFSET"
	PropConsumeStart    = "CONSUME_START_TIME"
	PropMinOffset       = "MIN_OFFSET"
	PropMaxOffset       = "MAX_OFFSET"
	PropPopCheck        = "POP_CK"
	PropFirstPop        = "1ST_POP_TIME"
	PropDupInfo         = "DUP_INFO"
	PropDeadTopic       = "DLQ_ORIGIN_TOPIC"
	PropDeadID          = "DLQ_ORIGIN_MESSAGE_ID"
	PropShardingKey     = "__SHARDINGKEY"
	PropCorrelation     = "CORRELATION_ID"
	PropReplyTo         = "REPLY_TO_CLIENT"
	PropTTL             = "TTL"
	PropCRC             = "__CRC32#"

	// PropIdempotency holds Message.IdempotencyKey.
	PropIdempotency = "__IDEMPOTENCYKEY"
	// PropExpire holds Message.ExpireAt in milliseconds.
	PropExpire = "__EXPIRE_AT"
	// PropOriginQueue is on a retry and on a dead letter: queue number and offset
	// of the original in its topic, with a colon between them.
	PropOriginQueue = "__ORIGIN_QUEUE"
	// PropDeadReason is why a record became a dead letter, PropDeadAt when, in
	// milliseconds.
	PropDeadReason = "__DEAD_REASON"
	PropDeadAt     = "__DEAD_AT"
	// PropUnindexed is on a message that the index leaves out.
	PropUnindexed = "__UNINDEXED"
	// PropGroup is on the first record of an atomic group: how many records
	// belong to it, as four hex digits.
	PropGroup = "EMBER_GROUP"
	// PropTimer is on a fired message: the position of the waiting record.
	PropTimer = "EMBER_TIMER"
	// PropDue is on a message delayed by level: when it is due, in milliseconds.
	PropDue = "EMBER_DUE"
	// PropVerdict is on the decision about a half message.
	PropVerdict = "EMBER_VERDICT"
	// PropSettles names the group, epoch, queue and offset that a retry or a
	// dead letter settles.
	PropSettles = "EMBER_SETTLES"
	// PropCarries is on a record that replaces an older one: the old position.
	PropCarries = "EMBER_CARRIES"
	// PropDeletes is on the record that deletes a topic.
	PropDeletes = "EMBER_DELETES"
)

// PrefixOwn starts the names that only the store writes.
const PrefixOwn = "EMBER_"

const (
	// MaxProperties is the most that a record's properties take, its checksum
	// included: their length is a signed 16-bit number on disk.
	MaxProperties = 32767
	// MaxUserProperties is the most that everything a user sets may take when
	// it is encoded: tag, keys and properties. The rest is the store's.
	MaxUserProperties = 31743

	nameEnd  = 0x01 // between name and value. On disk.
	valueEnd = 0x02 // behind a value. On disk.
)

// Reserved reports whether a user may not set a property of this name, because
// the store or RocketMQ gives it a meaning.
func Reserved(name string) bool {
	// Lower-case names are the common case and none of them is reserved.
	if name == "" || name[0] >= 'a' {
		return false
	}
	switch name {
	case PropTags, PropKeys, PropUniqKey, PropWait, PropDelay, PropRealTopic, PropRealQueue,
		PropTranMsg, PropProducerGroup, PropTransactionID, PropTranQueueOffset, PropTranChecks,
		PropCheckImmunity, PropRetryTopic, PropOriginID, PropReconsumeTime, PropMaxReconsume,
		PropTimerDelaySec, PropTimerDelayMs, PropTimerDeliverMs, PropTimerOutMs,
		PropTimerEnqueueMs, PropTimerDequeueMs, PropTimerRollTimes, PropTimerDelUniq,
		PropTimerLevel, PropInnerNum, PropInnerBase, PropInnerDispatch, PropInnerOffset,
		PropConsumeStart, PropMinOffset, PropMaxOffset, PropPopCheck, PropFirstPop, PropDupInfo,
		PropDeadTopic, PropDeadID, PropShardingKey, PropCorrelation, PropReplyTo, PropTTL,
		PropCRC, PropIdempotency, PropExpire, PropUnindexed,
		PropOriginQueue, PropDeadReason, PropDeadAt:
		return true
	}
	return strings.HasPrefix(name, PrefixOwn)
}

// nextProperty splits the first property off s by the rules of RocketMQ's
// parser: properties end at 0x02 or at the end of the text, a name ends at the
// first 0x01, and a part without a name or without a value does not count.
func nextProperty(s string) (name, value, rest string, ok bool) {
	for s != "" {
		part := s
		if i := strings.IndexByte(s, valueEnd); i >= 0 {
			part, s = s[:i], s[i+1:]
		} else {
			s = ""
		}
		if i := strings.IndexByte(part, nameEnd); i > 0 && i < len(part)-1 {
			return part[:i], part[i+1:], s, true
		}
	}
	return "", "", "", false
}

// lookup finds a property. When a name stands there twice, the last counts. It
// looks for the name in the text as a whole: most are not there, and that is
// known much sooner than when every property is taken apart.
func lookup(s, name string) (value string, ok bool) {
	if name == "" {
		return "", false
	}
	for at := 0; ; {
		i := strings.Index(s[at:], name)
		if i < 0 {
			return value, ok
		}
		start := at + i
		end := start + len(name)
		at = end
		if end >= len(s)-1 || s[end] != nameEnd || start > 0 && s[start-1] != valueEnd || s[end+1] == valueEnd {
			continue // part of another text, or without a value
		}
		if strings.IndexByte(name, nameEnd) >= 0 || strings.IndexByte(name, valueEnd) >= 0 {
			return "", false // no property is called so
		}
		value, ok = s[end+1:], true
		if j := strings.IndexByte(value, valueEnd); j >= 0 {
			value = value[:j]
		}
	}
}

// checkText reports what keeps a name or a value from being a property's.
func checkText(field, s string) error {
	if i := strings.IndexAny(s, "\x01\x02"); i >= 0 {
		return &InvalidError{Field: field, Reason: "byte 0x0" +
			strconv.Itoa(int(s[i])) + " separates properties and cannot be inside one"}
	}
	return nil
}
