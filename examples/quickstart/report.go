package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/embermq/embermq/store"
)

// result is everything that the table is made of.
type result struct {
	plan   *plan
	ledger *ledger

	childSent, childAcked           int
	childTook, parentTook, readTook time.Duration
	recovery, reopened              store.Recovery
	survey                          found
	groups                          []*reader
	check                           store.Report
}

// claim is a sentence that must be true.
type claim struct {
	text string
	ok   bool
}

func (r *result) claims() []claim {
	l, f := r.ledger, r.survey
	cs := []claim{
		{"the child was killed while it sent", r.childAcked >= killAfter && r.childSent < len(r.plan.flights)},
		{"every acknowledged message was there after the kill", f.lost == 0 && f.stored >= r.childAcked},
		{"every message found was the one that belonged there", f.changed == 0},
		{"no offset was given twice", l.twice == 0},
		{"everything was acknowledged or had survived", l.acked+f.survived == len(r.plan.flights)},
		{"the check of the whole store found nothing wrong", r.check.OK()},
	}
	for _, g := range r.groups {
		lost, wrong := g.compare(r.plan)
		cs = append(cs,
			claim{"group " + g.group + " missed nothing", lost == 0},
			claim{"group " + g.group + " got nothing wrong", wrong == 0},
			claim{"group " + g.group + " got each airport in order", g.outOfOrder == 0},
			claim{"group " + g.group + " got again what it had not committed, and only that", g.uncommitted > 0 && g.redelivered == g.uncommitted},
		)
	}
	return cs
}

// print writes the table and tells how many claims do not hold.
func (r *result) print(w io.Writer) (failed int) {
	l, f := r.ledger, r.survey
	unacked := r.childSent - r.childAcked
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

	p("%s flights from %d airports, keyed by airport over %d queues", num(len(r.plan.flights)), r.plan.airports, queues)
	p("")
	p("%-28s%15s%15s%15s", "sending", "until SIGKILL", "after it", "together")
	p("%-28s%15s%15s%15s", "sent", num(r.childSent), num(l.sent-r.childSent), num(l.sent))
	p("%-28s%15s%15s%15s", "acknowledged", num(r.childAcked), num(l.acked-r.childAcked), num(l.acked))
	p("%-28s%15s", "not acknowledged", num(unacked))
	p("%-28s%15s", "  of these survived", num(f.survived))
	p("%-28s%15s", "lost", num(f.lost))
	p("%-28s%15s%15s", "acknowledged per second", rate(r.childAcked, r.childTook), rate(l.acked-r.childAcked, r.parentTook))
	p("")
	names, rows := fmt.Sprintf("%-28s", "receiving"), [...]string{"received", "filtered", "redelivered", "lost", "out of order", "wrong"}
	cells := make([]string, len(rows))
	var received int
	for _, g := range r.groups {
		lost, wrong := g.compare(r.plan)
		names += fmt.Sprintf("%15s", "group "+g.group)
		for i, n := range []int{g.received, g.filtered(), g.redelivered, lost, g.outOfOrder, wrong} {
			cells[i] += fmt.Sprintf("%15s", num(n))
		}
		received += g.received + g.redelivered
	}
	p("%s", names)
	for i, row := range rows {
		p("%-28s%s", row, cells[i])
	}
	p("%-28s%15s", "received per second", rate(received, r.readTook))
	p("")
	p("%-28s%15s   %d records replayed, %d bytes cut", "Open after SIGKILL took", short(r.recovery.Took), r.recovery.Replayed, r.recovery.CutBytes)
	p("%-28s%15s", "Open after Close took", short(r.reopened.Took))
	p("")
	for _, c := range r.claims() {
		mark := "ok    "
		if !c.ok {
			mark = "FAILED"
			failed++
		}
		p("%s  %s", mark, c.text)
	}
	for _, d := range r.check.Damages {
		p("        %s", d)
	}
	return failed
}

// num writes a number with a comma for each thousand.
func num(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func rate(n int, d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	return num(int(float64(n) / d.Seconds()))
}

func short(d time.Duration) string { return d.Round(10 * time.Microsecond).String() }
