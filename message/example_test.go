package message_test

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/embermq/embermq/message"
)

func ExampleTags() {
	f, err := message.Tags(" paid ||shipped")
	fmt.Println(f, err)
	all, err := message.Tags("*")
	fmt.Println(all == nil, err)
	// Output:
	// paid || shipped <nil>
	// true <nil>
}

func ExampleSQL92() {
	f, err := message.SQL92("region = 'north' AND price BETWEEN 10 AND 20")
	fmt.Println(f, err)
	_, err = message.SQL92("price >")
	fmt.Println(err)
	// Output:
	// (region = 'north') AND ((price >= 10) AND (price <= 20)) <nil>
	// invalid filter: column 8: the text ends where a property, a value or ( is expected
}

// Where a consumer begins.
func ExampleStart() {
	for _, s := range []message.Start{message.First(), message.Last(), message.At(7),
		message.AtTime(time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC))} {
		fmt.Println(s)
	}
	// Output:
	// first
	// last
	// offset 7
	// time 2026-01-02T15:04:05Z
}

// Names are checked before they become folders.
func ExampleCheckTopic() {
	fmt.Println(message.CheckTopic("orders"))
	fmt.Println(message.CheckTopic("../orders"))
	fmt.Println(message.CheckGroup("billing"))
	fmt.Println(message.IsSystemTopic("SCHEDULE_TOPIC_XXXX"), message.Reserved("TAGS"))
	// Output:
	// <nil>
	// invalid topic name "../orders": character '.' is not one of % | a-z A-Z 0-9 _ -
	// <nil>
	// true true
}

// A trace travels in properties.
func ExampleCarrierOf() {
	m := &message.Message{Topic: "orders"}
	message.CarrierOf(m).Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	t, ok := message.ParseTraceparent(m.Properties["traceparent"])
	fmt.Println(t.TraceID, t.Sampled(), ok)
	// A consumer takes it from the record, by message.CarrierOfRecord.
	fmt.Println(message.CarrierOfRecord(new(message.Record)).Get("traceparent") == "")
	// Output:
	// 0af7651916cd43dd8448eb211c80319c true true
	// true
}

func ExampleParseOffsetID() {
	id := message.OffsetID(netip.MustParseAddrPort("10.0.0.5:10911"), 4096)
	host, position, err := message.ParseOffsetID(id)
	fmt.Println(id, host, position, err)
	// Output:
	// 0A00000500002A9F0000000000001000 10.0.0.5:10911 4096 <nil>
}

// What a Java client's unique id tells of it.
func ExampleParseUniqKey() {
	k, err := message.ParseUniqKey("0A0000051F9018B4AAC26B1F5C8A0001")
	fmt.Println(k.Addr, k.PID, k.Counter, err)
	fmt.Println(message.JavaHash("orders"))
	// Output:
	// 10.0.0.5 8080 1 <nil>
	// -1008770331
}

func ExamplePending() {
	p := message.NewPending() // Store.PutAsync returns one
	go p.Resolve(message.Receipt{Queue: message.Queue{Topic: "orders"}, Offset: 7}, nil)
	<-p.Done()
	r, err := p.Wait(context.Background())
	fmt.Println(r.Queue, r.Offset, err)
	// Output: orders/0 7 <nil>
}
