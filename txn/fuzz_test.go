package txn

import (
	"bytes"
	"testing"

	"github.com/embermq/embermq/message"
)

// FuzzRows: rows that parse are written back as they were; no others panic.
func FuzzRows(f *testing.F) {
	h := row{pos: 77, offset: 3, born: 1, shield: -1, size: 200, checks: 2, real: message.Queue{Topic: "t", ID: 1}, group: "g", id: ident{1}, text: "x"}
	f.Add(halfKey(nil, h.pos), h.append(nil))
	f.Add(pageKey(nil, 1), appendPage(nil, []remembered{{ident{1}, message.Committed}}))
	f.Add([]byte(keyMark), (&markRow{mark: message.Mark{Offset: 5, Fingerprint: 6}, most: 8, count: 3, next: 3}).append(nil))
	f.Add([]byte(prefixGone+"topic"), appendFloor(nil, 9))
	f.Fuzz(func(t *testing.T, k, v []byte) {
		if r, err := parseHalf(k, v); err == nil && !bytes.Equal(v, r.append(nil)) {
			t.Fatalf("%+v", r)
		}
		if n, p, err := parsePage(k, v); err == nil && (!bytes.Equal(v, appendPage(nil, p)) || !bytes.Equal(k, pageKey(nil, n))) {
			t.Fatalf("%d %v", n, p)
		}
		if r, err := parseMark(k, v); err == nil && !bytes.Equal(v, r.append(nil)) {
			t.Fatalf("%+v", r)
		}
		if topic, floor, err := parseFloor(k, v); err == nil && (!bytes.Equal(v, appendFloor(nil, floor)) || string(k) != prefixGone+topic) {
			t.Fatalf("%s %d", topic, floor)
		}
	})
}

// FuzzApply: whatever stands in the half topic, or among the verdicts, does no
// harm, and what was learned from it can be saved and read again.
func FuzzApply(f *testing.F) {
	f.Add(uint8(0), "t", "1", "ID", "g", "5", "00000000000000000000000000000000", "0,1,")
	f.Add(uint8(1), "t", "-1", "", "", "x", "C0000000000000000", "")
	f.Add(uint8(2), "RMQ_SYS_TRANS_HALF_TOPIC", "99999999999", "ID", "g", "-1", "", "1")
	f.Fuzz(func(t *testing.T, kind uint8, topic, queue, id, group, shield, own, body string) {
		r := mustRig(t)
		r.prepare(t, "t", "x", "g")
		to := []string{message.TopicHalf, message.TopicOpHalf, message.TopicCheckMax, "t"}[kind%4]
		name := []string{message.PropCarries, message.PropVerdict, message.PropCarries, message.PropCarries}[kind%4]
		var d message.Draft
		e := message.Envelope{SysFlag: message.FlagCommit * int32(kind%4/3)}
		for _, p := range []message.Property{
			{Name: message.PropRealTopic, Value: topic}, {Name: message.PropRealQueue, Value: queue}, {Name: message.PropUniqKey, Value: id},
			{Name: message.PropProducerGroup, Value: group}, {Name: message.PropCheckImmunity, Value: shield},
			{Name: name, Value: own, Own: own != ""}, {Name: message.PropTranChecks, Value: shield},
		} {
			if p.Value != "" {
				e.Reserved = append(e.Reserved, p)
			}
		}
		if err := d.Encode(&message.Message{Tag: "d", Body: []byte(body)}, message.Queue{Topic: to}, &e); err != nil {
			return
		}
		r.log.mu.Lock()
		r.log.writeLocked(&d, message.Queue{Topic: to}, true)
		r.log.mu.Unlock()
		before := r.list()
		if err := r.save(); err != nil {
			t.Fatal(err)
		}
		again := *r
		if err := again.open(); err != nil {
			t.Fatal(err)
		}
		defer again.Close(bg)
		after := again.list()
		if len(before) != len(after) {
			t.Fatalf("%d halves are saved as %d", len(before), len(after))
		}
		for i := range before {
			if before[i] != after[i] {
				t.Fatalf("%+v is saved as %+v", before[i], after[i])
			}
		}
	})
}
