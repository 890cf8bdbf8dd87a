package message

import (
	"strconv"
	"strings"
)

// Check reports what keeps a message from being stored, as far as the message
// alone tells: the rules of Draft.Encode without the encoding, and the topic's
// name. It allocates nothing for a good message. How large a body may be and
// which queues there are is for the store to say.
//
// The errors are *NameError, *InvalidError and *SizeError.
func (m *Message) Check() error {
	if err := CheckTopic(m.Topic); err != nil {
		return err
	}
	if IsSystemTopic(m.Topic) {
		return &NameError{Kind: "topic", Name: m.Topic, Reason: "belongs to the store itself"}
	}
	return m.CheckFields()
}

// CheckFields is Check without the topic, for callers that know it already.
func (m *Message) CheckFields() error {
	if err := checkDelay(m); err != nil {
		return err
	}
	switch {
	case m.Encoding >= LZ4:
		return &InvalidError{Field: "Encoding", Reason: m.Encoding.String() + " cannot be written"}
	case m.Durability > InCache:
		return &InvalidError{Field: "Durability", Reason: "unknown"}
	case strings.Contains(m.Tag, "||"):
		return &InvalidError{Field: "Tag", Reason: "contains ||, which separates tags in a filter"}
	case strings.IndexByte(m.UniqueID, ' ') >= 0:
		return &InvalidError{Field: "UniqueID", Reason: "contains a space"}
	}
	size := 0
	for _, f := range [...]struct{ field, name, value string }{
		{"Tag", PropTags, m.Tag},
		{"ShardingKey", PropShardingKey, m.ShardingKey},
		{"UniqueID", PropUniqKey, m.UniqueID},
		{"IdempotencyKey", PropIdempotency, m.IdempotencyKey},
	} {
		if f.value == "" {
			continue
		}
		size += len(f.name) + len(f.value) + 2
		if hasSeparator(f.value) {
			return checkText(f.field, f.value)
		}
	}
	n, err := m.checkKeys()
	if err != nil {
		return err
	}
	size += n
	if n, err = m.checkProperties(); err != nil {
		return err
	}
	size += n
	if r := m.ReplyTo; r != nil {
		if n, err = r.check(); err != nil {
			return err
		}
		size += n
	}
	if !m.ExpireAt.IsZero() {
		size += len(PropExpire) + len(strconv.FormatInt(m.ExpireAt.UnixMilli(), 10)) + 2
	}
	if m.Unindexed {
		size += len(PropUnindexed) + 1 + 2
	}
	if size > MaxUserProperties {
		return &SizeError{What: "user properties", Size: int64(size), Limit: MaxUserProperties}
	}
	return nil
}

func (m *Message) checkKeys() (size int, err error) {
	if len(m.Keys) == 0 {
		return 0, nil
	}
	size = len(PropKeys) + 1 + len(m.Keys)
	for _, k := range m.Keys {
		switch {
		case k == "":
			return 0, &InvalidError{Field: "Keys", Reason: "empty key"}
		case strings.IndexByte(k, ' ') >= 0:
			return 0, &InvalidError{Field: "Keys", Reason: "a key contains a space, which separates keys"}
		case hasSeparator(k):
			return 0, checkText("Keys", k)
		}
		size += len(k)
	}
	return size, nil
}

func (m *Message) checkProperties() (size int, err error) {
	for name, value := range m.Properties {
		switch {
		case name == "":
			return 0, &InvalidError{Field: "Properties", Reason: "empty name"}
		case value == "":
			return 0, &InvalidError{Field: "Properties[" + name + "]", Reason: "empty value"}
		case Reserved(name):
			return 0, &InvalidError{Field: "Properties[" + name + "]", Reason: "reserved name"}
		case hasSeparator(name):
			return 0, checkText("property name", name)
		case hasSeparator(value):
			return 0, checkText("Properties["+name+"]", value)
		}
		size += len(name) + len(value) + 2
	}
	return size, nil
}

func (r *ReplyTo) check() (size int, err error) {
	var d Draft
	if size, err = d.addReplyTo(r); err != nil {
		return 0, err
	}
	if hasSeparator(r.Correlation) || hasSeparator(r.Client) {
		return 0, &InvalidError{Field: "ReplyTo", Reason: "contains a byte that separates properties"}
	}
	return size, nil
}

func hasSeparator(s string) bool {
	return strings.IndexByte(s, nameEnd) >= 0 || strings.IndexByte(s, valueEnd) >= 0
}
