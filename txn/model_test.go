package txn

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	ids "github.com/embermq/embermq/internal/ident"
	"github.com/embermq/embermq/internal/kv"
	"github.com/embermq/embermq/message"
)

var (
	depth = flag.Int("txn.depth", 6, "how long the sequences of TestStateMachine are")
	wide  = flag.Bool("txn.wide", false, "TestStateMachine: three halves instead of two")
)

// machine is a rig and what it must be like.
type machine struct {
	*rig
	halves []*truth
	answer message.Decision // of the checker
}

// truth is what a half must be.
type truth struct {
	id     message.HalfID
	how    message.Decision
	gone   bool // with its topic
	checks int
	// inLog and saved are the counts of checks that a crash does not take.
	inLog, saved int
}

const machineChecks = 2

func newMachine() (*machine, error) {
	m := &machine{rig: newRig(func(o *Options) { o.MaxChecks, o.Remember = machineChecks, 8 })}
	return m, m.start()
}

func (m *machine) start() error {
	if err := m.open(); err != nil {
		return err
	}
	_, err := m.Halves().OnCheck("g", func(context.Context, *message.Half) (message.Decision, error) { return m.answer, nil }, message.CheckOptions{})
	return err
}

// crash is what the next process finds.
func (m *machine) crash() error {
	if err := m.Close(bg); err != nil {
		return err
	}
	m.log, m.disk = m.log.cut(m.log.synced), m.disk.Cut(m.disk.Versions()-1)
	for _, h := range m.halves {
		h.checks = max(h.inLog, h.saved)
	}
	return m.start()
}

// ask moves the time so that every half is asked about, or given up.
func (m *machine) ask(how message.Decision) error {
	m.answer = how
	if err := m.advance(time.Hour); err != nil {
		return err
	}
	for _, h := range m.halves {
		switch {
		case h.gone || h.how != message.Undecided:
		case h.checks >= machineChecks:
			h.how, h.inLog = message.GivenUp, h.checks
		case how == message.Undecided:
			h.checks++
		default:
			h.how = how
		}
	}
	return nil
}

// end gives a verdict.
func (m *machine) end(n int, how message.Decision, recover bool) error {
	h := m.halves[n]
	before := h.how
	var got message.Decision
	var r message.Receipt
	var err error
	switch {
	case recover:
		r, got, err = m.Halves().Recover(bg, h.id, how)
	case how == message.Committed:
		r, got, err = m.Halves().Commit(bg, h.id)
	default:
		got, err = m.Halves().Rollback(bg, h.id)
		r.Offset = -1
	}
	var want error
	switch {
	case h.gone:
		want = message.ErrNotFound
	case recover && h.how == message.Undecided:
		want = message.ErrBusy
	case recover && h.how == message.GivenUp, !recover && h.how == message.Undecided:
		h.how = how
	}
	if !errors.Is(err, want) {
		return fmt.Errorf("half %d: verdict %v is answered by %w, want %v", n, how, err, want)
	}
	if err == nil && got != h.how {
		return fmt.Errorf("half %d: verdict %v is answered %v, want %v", n, how, got, h.how)
	}
	if mine := before != h.how && h.how == message.Committed; mine != (r.Offset >= 0) {
		return fmt.Errorf("half %d: verdict %v gives offset %d", n, how, r.Offset)
	}
	return nil
}

func (m *machine) carry() error {
	want := 0
	for _, h := range m.halves {
		if !h.gone && (h.how == message.Undecided || h.how == message.GivenUp) {
			want++
			h.inLog = h.checks
		}
	}
	n, err := m.Carry(bg, m.log.end)
	if err == nil && n != want {
		err = fmt.Errorf("%d halves are carried, want %d", n, want)
	}
	return err
}

func (m *machine) dropTopic() error {
	for _, h := range m.halves {
		if h.how == message.Undecided || h.how == message.GivenUp {
			h.gone = true
		}
	}
	m.log.write(message.Queue{Topic: message.TopicTopics}, &message.Message{Body: []byte("t")},
		message.Property{Name: message.PropDeletes, Value: "t", Own: true})
	m.log.births["t"] = m.log.end
	m.log.synced = len(m.log.recs)
	return nil
}

func (m *machine) checkpoint(how string) error {
	if how == "freeze" { // and then the process dies before it saves, or freezes again
		m.Freeze(m.log.mark())
		return nil
	}
	m.disk.Fail, m.disk.After = 0, how == "after"
	if how != "save" {
		m.disk.Fail = 1
	}
	err := m.save()
	if how == "save" || how == "after" {
		for _, h := range m.halves {
			h.saved = h.checks
		}
	}
	if (err != nil) != (how != "save") {
		return fmt.Errorf("save (%s): %v", how, err)
	}
	return nil
}

// steps of the machine; false means that this one is impossible here.
type step struct {
	name string
	do   func(m *machine) (bool, error)
}

func (m *machine) prepareNext(limit int) (bool, error) {
	if len(m.halves) == limit {
		return false, nil
	}
	_, id, err := m.Halves().Prepare(bg, &message.Message{Topic: "t", Body: fmt.Append(nil, len(m.halves))}, "g", message.HalfOptions{})
	m.halves = append(m.halves, &truth{id: id})
	return true, err
}

func machineSteps(halves int) []step {
	always := func(f func(m *machine) error) func(m *machine) (bool, error) {
		return func(m *machine) (bool, error) { return true, f(m) }
	}
	ss := []step{
		{"prepare", func(m *machine) (bool, error) { return m.prepareNext(halves) }},
		{"unknown", always(func(m *machine) error { return m.ask(message.Undecided) })},
		{"checked: commit", always(func(m *machine) error { return m.ask(message.Committed) })},
		{"checked: roll back", always(func(m *machine) error { return m.ask(message.RolledBack) })},
		{"carry", always((*machine).carry)},
		{"delete topic", always((*machine).dropTopic)},
		{"crash", always((*machine).crash)},
	}
	for _, how := range []string{"save", "freeze", "before", "after"} {
		ss = append(ss, step{"save: " + how, always(func(m *machine) error { return m.checkpoint(how) })})
	}
	for n := range halves {
		for _, how := range []message.Decision{message.Committed, message.RolledBack} {
			for _, recover := range []bool{false, true} {
				ss = append(ss, step{fmt.Sprintf("end %d %v %v", n, how, recover), func(m *machine) (bool, error) {
					if n >= len(m.halves) {
						return false, nil
					}
					return true, m.end(n, how, recover)
				}})
			}
		}
	}
	return ss
}

// verify compares what there is with the truth.
func (m *machine) verify() error {
	delivered := map[string]int{}
	for _, b := range m.bodies() {
		delivered[b]++
	}
	pending, aside := int64(0), int64(0)
	for n, h := range m.halves {
		want := 0
		if h.how == message.Committed {
			want = 1
		}
		if got := delivered[fmt.Sprint(n)]; got != want {
			return fmt.Errorf("half %d is %v and delivered %d times", n, h.how, got)
		}
		how, err := m.Halves().State(h.id)
		if h.gone {
			if !errors.Is(err, message.ErrNotFound) {
				return fmt.Errorf("half %d died with its topic: %v, %w", n, how, err)
			}
			continue
		}
		if err != nil || how != h.how {
			return fmt.Errorf("half %d is %v (%v), want %v", n, how, err, h.how)
		}
		switch h.how {
		case message.Undecided:
			pending++
		case message.GivenUp:
			aside++
		default:
			continue
		}
		got, err := m.Halves().Get(h.id)
		if err != nil {
			return fmt.Errorf("half %d: %w", n, err)
		}
		if string(got.Message.Body) != fmt.Sprint(n) || got.Checks != h.checks || got.GivenUp != (h.how == message.GivenUp) || got.Group != "g" {
			return fmt.Errorf("half %d is %+v, want %+v", n, got, h)
		}
	}
	if p, a := m.Halves().Len(), m.Halves().GivenUp(); p != pending || a != aside {
		return fmt.Errorf("%d pending, %d given up, want %d, %d", p, a, pending, aside)
	}
	return nil
}

// signature is the same for two machines that behave the same from now on.
func (m *machine) signature() string {
	var b strings.Builder
	names := map[int64]string{}
	index := func(r *message.Record) string {
		if v, ok := r.OwnValue(message.PropVerdict); ok {
			_, pos, _ := parseVerdict(v)
			return "v" + v[:1] + names[pos]
		}
		if slices.Contains([]string{message.TopicHalf, message.TopicCheckMax}, r.Topic()) {
			names[r.Position()] = r.UniqueID()[31:] + r.Topic()[:1]
			return "h" + names[r.Position()]
		}
		return r.Topic()[:1]
	}
	for _, rec := range m.log.recs {
		if s := index(parse(rec.b)); rec.pos >= m.mu.saved.Offset {
			b.WriteString(s)
		}
	}
	for _, h := range m.halves {
		fmt.Fprintf(&b, "|%v%v%d%d%d", h.how, h.gone, h.checks, h.inLog, h.saved)
		if i, _ := ids.Of(string(h.id)); m.mu.ids[i] != nil {
			h := m.mu.ids[i]
			fmt.Fprintf(&b, "m%v%v%v%d", h.stored, h.fresh >= 0, h.due, h.checks)
		}
	}
	for pos := range m.mu.dead {
		fmt.Fprintf(&b, "d%s", names[pos])
	}
	fmt.Fprintf(&b, "f%v%v%v", m.mu.frozen != nil, m.mu.isNew, len(m.mu.sunk))
	for r, err := range m.disk.Scan([]byte(prefixAll), end(prefixAll)) {
		if err != nil {
			panic(err)
		}
		m.describe(&b, r, names)
	}
	return b.String()
}

func (m *machine) describe(b *strings.Builder, r kv.KV, names map[int64]string) {
	if h, err := parseHalf(r.Key, r.Value); err == nil {
		fmt.Fprintf(b, "r%s%d%d", names[h.pos], h.state, h.checks)
	} else if n, p, err := parsePage(r.Key, r.Value); err == nil {
		fmt.Fprintf(b, "p%d%v", n, p)
	}
}

// TestStateMachine does every sequence of steps, up to a length. Two that lead to
// the same state are one.
func TestStateMachine(t *testing.T) {
	halves := 2
	if *wide {
		halves = 3
	}
	n, states, err := explore(machineSteps(halves), *depth, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d sequences lead to %d states", n, states)
}

// explore returns the first sequence that goes wrong, as an error.
func explore(ss []step, depth, limit int) (sequences, states int, err error) {
	seen := map[string]bool{}
	level := [][]int{nil}
	for range depth {
		var next [][]int
		for _, path := range level {
			for i := range ss {
				if sequences == limit {
					return sequences, len(seen), nil
				}
				p := append(slices.Clone(path), i)
				sig, possible, err := replay(ss, p)
				if err != nil {
					var names []string
					for _, j := range p {
						names = append(names, ss[j].name)
					}
					return sequences, len(seen), fmt.Errorf("%s: %w", strings.Join(names, ", "), err)
				}
				if !possible {
					continue
				}
				sequences++
				if !seen[sig] {
					seen[sig] = true
					next = append(next, p)
				}
			}
		}
		level = next
	}
	return sequences, len(seen), nil
}

// replay does a sequence, of which only the last step is new.
func replay(ss []step, path []int) (sig string, possible bool, err error) {
	m, err := newMachine()
	if err != nil {
		return "", false, err
	}
	defer func() { err = errors.Join(err, m.Close(bg)) }()
	for _, i := range path {
		if possible, err = ss[i].do(m); err != nil || !possible {
			return "", false, err
		}
	}
	if err := m.verify(); err != nil {
		return "", true, err
	}
	sig = m.signature()
	// And the same after a crash.
	if err := m.crash(); err != nil {
		return "", true, err
	}
	if err := m.verify(); err != nil {
		return "", true, fmt.Errorf("after a crash: %w", err)
	}
	return sig, true, nil
}
