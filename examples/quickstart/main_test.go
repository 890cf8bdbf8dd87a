package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
	"github.com/stretchr/testify/require"
)

// TestMain lets the test's own binary be the child that is killed.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestQuickstart(t *testing.T) {
	r, err := run(t.Context(), t.TempDir())
	require.NoError(t, err)
	var out bytes.Buffer
	require.Zero(t, r.print(&out), "%s", &out)
	require.NotContains(t, out.String(), "FAILED")
	require.Equal(t, 20_000, r.groups[0].received)
	require.Equal(t, 4_349, r.groups[1].received)
	require.Equal(t, 15_651, r.groups[1].filtered())
}

func TestPlan(t *testing.T) {
	p, err := loadPlan()
	require.NoError(t, err)
	require.Len(t, p.flights, 20_000)
	require.Equal(t, 220, p.airports)
	seqs := make(map[string]int)
	for _, f := range p.flights {
		require.Equal(t, seqs[f.Origin], f.seq)
		seqs[f.Origin]++
		m := f.message()
		require.Equal(t, []string{f.Origin}, m.Keys)
		require.Equal(t, f.Delay > 15, m.Tag == "late")
	}
	require.Nil(t, p.at(0, -1))
	require.Nil(t, p.at(0, int64(len(p.byQueue[0]))))
	require.Equal(t, p.byQueue[3][1:], p.from([queues]int64{3: 1})[3])
	require.Empty(t, p.from([queues]int64{3: 1 << 40})[3])
}

// TestChildReports reads the lines of a report and refuses others.
func TestChildReports(t *testing.T) {
	l := newLedger()
	var b bytes.Buffer
	n := pipeNotary{&b}
	sum := sha256.Sum256([]byte("x"))
	require.NoError(t, n.sending())
	require.NoError(t, n.acknowledged(5, 17, sum))
	for line := range strings.Lines(b.String()) {
		require.NoError(t, l.line(line))
	}
	require.Equal(t, sum, l.sums[5][17])
	require.Equal(t, []int{1, 1}, []int{l.sent, l.acked})
	for _, bad := range []string{"\n", "ack 1 2\n", "ack 8 0 00\n", "ack 1 2 00\n", "ack 1 x 00\n", "panic: no\n"} {
		require.Error(t, l.line(bad), "%q", bad)
	}
}

// perfect is the result of a run in which all went well, without a store.
func perfect(t *testing.T) *result {
	t.Helper()
	p, err := loadPlan()
	require.NoError(t, err)
	r := &result{plan: p, ledger: newLedger(), childSent: killAfter + 5, childAcked: killAfter}
	r.groups = []*reader{
		newReader("all", nil, func(*flight) bool { return true }),
		newReader("late", nil, (*flight).late),
	}
	for q, flights := range p.byQueue {
		for i, f := range flights {
			sum := sha256.Sum256(f.body)
			require.NoError(t, r.ledger.acknowledged(int32(q), int64(i), sum))
			for _, g := range r.groups {
				if g.wants(f) {
					g.got[q][int64(i)] = sum
				}
			}
		}
	}
	for _, g := range r.groups {
		g.uncommitted, g.redelivered = 7, 7
	}
	r.survey.stored = killAfter
	return r
}

// TestClaimsFail breaks each claim once: a table that cannot fail proves
// nothing.
func TestClaimsFail(t *testing.T) {
	late := func(r *result) (q int, offset int64) {
		for i, f := range r.plan.byQueue[2] {
			if f.late() {
				return 2, int64(i)
			}
		}
		panic("no late flight")
	}
	onTime := func(r *result) (q int, offset int64) {
		for i, f := range r.plan.byQueue[2] {
			if !f.late() {
				return 2, int64(i)
			}
		}
		panic("no flight on time")
	}
	cases := []struct {
		name  string
		plant func(*result)
	}{
		{"child_was_not_sending", func(r *result) { r.childSent = len(r.plan.flights) }},
		{"killed_too_early", func(r *result) { r.childAcked = 10 }},
		{"acknowledged_message_lost", func(r *result) { r.survey.lost = 1 }},
		{"message_changed", func(r *result) { r.survey.changed = 1 }},
		{"offset_given_twice", func(r *result) { r.ledger.twice = 1 }},
		{"message_never_sent", func(r *result) { r.ledger.acked-- }},
		{"check_found_damage", func(r *result) { r.check.Damages = []store.Damage{{Path: "x"}} }},
		{"group_missed_one", func(r *result) { q, o := late(r); delete(r.groups[1].got[q], o) }},
		{"filter_let_one_through", func(r *result) { q, o := onTime(r); r.groups[1].got[q][o] = r.groups[0].got[q][o] }},
		{"group_got_another_body", func(r *result) { r.groups[0].got[3][4] = digest{} }},
		{"group_got_one_too_many", func(r *result) { r.groups[0].got[3][1<<40] = digest{} }},
		{"out_of_order", func(r *result) { r.groups[0].outOfOrder = 1 }},
		{"skipped_after_restart", func(r *result) { r.groups[0].redelivered-- }},
		{"nothing_redelivered", func(r *result) { r.groups[0].redelivered, r.groups[0].uncommitted = 0, 0 }},
	}
	require.Zero(t, perfect(t).print(&bytes.Buffer{}))
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := perfect(t)
			c.plant(r)
			var out bytes.Buffer
			require.Equal(t, 1, r.print(&out), "%s", &out)
		})
	}
}

// TestSurveyFindsDamage compares a store with ledgers that do not fit it.
func TestSurveyFindsDamage(t *testing.T) {
	p, err := loadPlan()
	require.NoError(t, err)
	s, err := store.Open(t.TempDir(), store.WithDurability(message.InCache))
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.CreateTopic(t.Context(), store.Topic{Name: topic, WriteQueues: queues}))
	l := newLedger()
	var first [queues][]*flight
	for q := range first {
		first[q] = p.byQueue[q][:10]
	}
	require.NoError(t, send(t.Context(), s, first, l))

	f, err := survey(s, p, l)
	require.NoError(t, err)
	require.Equal(t, found{ends: f.ends, stored: 80}, f)
	require.Equal(t, [queues]int64{10, 10, 10, 10, 10, 10, 10, 10}, f.ends)

	l.sums[1][10] = digest{}                               // acknowledged, not there
	l.sums[2][3] = digest{}                                // there, with another body
	delete(l.sums[4], 9)                                   // there, not acknowledged
	_, err = s.Put(t.Context(), p.byQueue[6][0].message()) // out of its place
	require.NoError(t, err)
	f, err = survey(s, p, l)
	require.NoError(t, err)
	require.Equal(t, []int{1, 2, 2, 81}, []int{f.lost, f.changed, f.survived, f.stored})
}

// TestReaderSeesDisorder feeds a group an airport's flights the wrong way round.
func TestReaderSeesDisorder(t *testing.T) {
	r := newReader("g", nil, nil)
	order := make(map[string]int)
	for i, seq := range []int{0, 1, 3, 2, 4, 4} {
		r.take(record(t, int64(i), "SFO", seq), order)
	}
	require.Equal(t, 2, r.outOfOrder)
	r.take(record(t, 5, "SFO", 9), order)
	require.Equal(t, []int{6, 1, 7}, []int{r.received, r.redelivered, r.pending})
}

func record(t *testing.T, offset int64, airport string, seq int) *message.Record {
	t.Helper()
	var d message.Draft
	m := &message.Message{Topic: topic, Keys: []string{airport}, Properties: map[string]string{propSeq: fmt.Sprint(seq)}}
	require.NoError(t, d.Encode(m, message.Queue{Topic: topic}, &message.Envelope{}))
	d.Stamp(0, offset, 0)
	r, err := message.ParseRecord(bytes.Clone(d.Bytes()))
	require.NoError(t, err)
	return &r
}

func TestNum(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", -1000: "-1,000", -999: "-999", 1234567: "1,234,567"} {
		require.Equal(t, want, num(n))
	}
}
