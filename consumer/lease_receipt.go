package consumer

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/embermq/embermq/message"
)

// Lease is a message that its receiver alone sees until a time.
type Lease struct {
	*Delivery
	// Receipt is what Ack, Nack, Extend and DeadLetter want. It is text without
	// blanks, counts for any Leaser of the group, and survives a restart of the
	// process: it is valid until the message is settled or received again.
	Receipt string
	// Until is when the message becomes visible again, unless Extend moves that.
	Until time.Time
}

// receipt is what stands in a Lease's Receipt:
//
//	1:group:topic:queue:offset:lease:epoch
//
// No name can hold a colon.
type receipt struct {
	group string
	queue message.Queue
	at    int64
	lease uint64
	epoch uint64
}

// receiptVersion may be kept by users. Do not renumber.
const receiptVersion = "1"

func (r receipt) String() string {
	return strings.Join([]string{
		receiptVersion, r.group, r.queue.Topic, strconv.Itoa(int(r.queue.ID)),
		strconv.FormatInt(r.at, 10), strconv.FormatUint(r.lease, 10), strconv.FormatUint(r.epoch, 10),
	}, ":")
}

// parseReceipt reads the receipt of a group. The error matches ErrInvalidMessage.
func parseReceipt(text, groupName string) (receipt, error) {
	bad := func(reason string) (receipt, error) {
		return receipt{}, &message.InvalidError{Field: "receipt", Reason: reason}
	}
	p := strings.Split(text, ":")
	if len(p) != 7 || p[0] != receiptVersion {
		return bad("not a receipt")
	}
	if p[1] != groupName {
		return bad(fmt.Sprintf("of group %q", p[1]))
	}
	r := receipt{group: p[1]}
	r.queue.Topic = p[2]
	id, err1 := strconv.ParseInt(p[3], 10, 32)
	at, err2 := strconv.ParseInt(p[4], 10, 64)
	lease, err3 := strconv.ParseUint(p[5], 10, 64)
	epoch, err4 := strconv.ParseUint(p[6], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || id < 0 || at < 0 || lease == 0 || message.CheckTopic(p[2]) != nil {
		return bad("not a receipt")
	}
	r.queue.ID, r.at, r.lease, r.epoch = int32(id), at, lease, epoch
	return r, nil
}
