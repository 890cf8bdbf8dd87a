package consumer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/embermq/embermq/message"
)

// rocketForm is the file of RocketMQ's Java client, which is not quite JSON: the
// keys of its table are objects.
//
//	{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"t"}:123}}
//
// The key as a string with that object in it, as the Go client writes it, is
// read too.
type rocketForm struct {
	broker  string
	foreign []rocketEntry // other brokers' offsets, kept as they are
}

type rocketKey struct {
	Broker string `json:"brokerName"`
	Queue  int32  `json:"queueId"`
	Topic  string `json:"topic"`
}

type rocketEntry struct {
	key    rocketKey
	offset int64
}

func (*rocketForm) atomic() bool { return false }

func (f *rocketForm) encode(_ string, offsets map[message.Queue]int64) ([]byte, error) {
	entries := slices.Clone(f.foreign)
	for _, q := range sortedQueues(offsets) {
		entries = append(entries, rocketEntry{rocketKey{f.broker, q.ID, q.Topic}, offsets[q]})
	}
	b := []byte(`{"offsetTable":{`)
	for i, e := range entries {
		if i > 0 {
			b = append(b, ',')
		}
		key, err := json.Marshal(e.key)
		if err != nil {
			return nil, err
		}
		b = append(b, key...)
		b = fmt.Appendf(b, ":%d", e.offset)
	}
	return append(b, "}}\n"...), nil
}

func (f *rocketForm) decode(_ string, b []byte) (map[message.Queue]int64, error) {
	entries, err := parseRocket(b)
	if err != nil {
		return nil, err
	}
	offsets := make(map[message.Queue]int64, len(entries))
	var foreign []rocketEntry
	for _, e := range entries {
		if e.key.Broker != f.broker {
			foreign = append(foreign, e)
			continue
		}
		if err := addLocal(offsets, message.Queue{Topic: e.key.Topic, ID: e.key.Queue}, e.offset); err != nil {
			return nil, err
		}
	}
	f.foreign = foreign
	return offsets, nil
}

// rocketParser walks through almost-JSON. After the first error it stands still.
type rocketParser struct {
	b   []byte
	at  int
	err error
}

func parseRocket(b []byte) (entries []rocketEntry, err error) {
	p := &rocketParser{b: b}
	p.table(func() {
		var name string
		p.value(&name)
		p.expect(':')
		if name != "offsetTable" && name != "OffsetTable" {
			p.value(new(json.RawMessage))
			return
		}
		p.table(func() {
			e := rocketEntry{key: p.key()}
			p.expect(':')
			p.value(&e.offset)
			entries = append(entries, e)
		})
	})
	if p.peek() != 0 {
		p.fail()
	}
	return entries, p.err
}

// table reads "{", what entry reads, separated by commas, and "}".
func (p *rocketParser) table(entry func()) {
	p.expect('{')
	if p.peek() == '}' {
		p.at++
		return
	}
	for p.err == nil {
		entry()
		if p.peek() != ',' {
			break
		}
		p.at++
	}
	p.expect('}')
}

func (p *rocketParser) key() (k rocketKey) {
	if p.peek() != '"' {
		p.value(&k)
		return k
	}
	var inner string
	p.value(&inner)
	if p.err == nil {
		p.err = json.Unmarshal([]byte(inner), &k)
	}
	return k
}

// value reads one JSON value.
func (p *rocketParser) value(into any) {
	if p.err != nil {
		return
	}
	d := json.NewDecoder(bytes.NewReader(p.b[p.at:]))
	if p.err = d.Decode(into); p.err == nil {
		p.at += int(d.InputOffset())
	}
}

// peek returns the next byte that is not a blank, 0 at the end.
func (p *rocketParser) peek() byte {
	for p.at < len(p.b) && bytes.IndexByte([]byte(" \t\r\n"), p.b[p.at]) >= 0 {
		p.at++
	}
	if p.at == len(p.b) {
		return 0
	}
	return p.b[p.at]
}

func (p *rocketParser) expect(c byte) {
	if p.err == nil && p.peek() != c {
		p.fail()
	}
	if p.err == nil {
		p.at++
	}
}

func (p *rocketParser) fail() {
	if p.err == nil {
		p.err = fmt.Errorf("unexpected text at %d", p.at)
	}
}

func sortedQueues(offsets map[message.Queue]int64) []message.Queue {
	return slices.SortedFunc(maps.Keys(offsets), compareQueues)
}

func compareQueues(a, b message.Queue) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ID, b.ID))
}
