package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/internal/crash"
	"github.com/embermq/embermq/internal/env"
	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
)

var (
	repairCases = flag.Int("repair.cases", 60, "damaged images that TestRepairSimulated repairs")
	repairSeed  = flag.Uint64("repair.seed", 0, "replay this image only")
)

// kept is a message of the machine that is to be damaged.
type kept struct {
	message.Receipt
	body   string
	bytes  []byte // its record
	synced bool   // no crash may take it
}

// unclean makes a machine that died in the middle of its work.
func unclean(t *testing.T) (*machine, []kept) {
	t.Helper()
	m := newMachine(t)
	s := m.open(store.WithDurability(message.InCache), store.WithIndexSizes(64, 64))
	var all []kept
	for i := range 150 {
		body := fmt.Sprintf("%04d%s", i, strings.Repeat(".", 50+i%5*100))
		topic := []string{"orders", "bills"}[i%2]
		r := put(t, s, &message.Message{Topic: topic, QueueID: int32(i / 2 % 2), Tag: "tag", Keys: []string{"k"}, Body: []byte(body)})
		all = append(all, kept{Receipt: r, body: body})
		switch i {
		case 40, 100:
			require.NoError(t, s.Checkpoint(ctx))
		case 140:
			require.NoError(t, s.Commit(ctx, "g", map[message.Queue]int64{orders: 9}))
			require.NoError(t, s.Sync(ctx))
			require.NoError(t, s.Log().SaveDurably())
			for k := range all {
				all[k].synced = true
			}
		}
	}
	for i := range all {
		r, err := s.Get(ctx, all[i].Position)
		require.NoError(t, err)
		all[i].bytes = bytes.Clone(r.Bytes())
	}
	sim := m.sim.Kill()
	require.NoError(t, s.Abandon())
	m.sim, m.root = sim, sim.FS()
	return m, all
}

// hurt damages a file of the image and says how.
func hurt(sim *crash.Sim, names []string, rnd *rand.Rand) (what string, err error) {
	name := names[rnd.IntN(len(names))]
	if rnd.IntN(3) > 0 { // the log is what repair is about
		name = names[slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, "commitlog/") })+rnd.IntN(2)]
	}
	if rnd.IntN(12) == 0 {
		return name + " is missing", errors.Join(sim.FS().Remove(name), sim.FS().SyncDir(path.Dir(name)))
	}
	return (&rotten{files: []string{name}}).damage(sim, rnd)
}

// TestRepairSimulated repairs machines that died uncleanly and then lost bytes: what is
// whole stays readable on both sides of the damage, no byte of the log is gone for good,
// Check finds nothing, and a second repair does nothing.
func TestRepairSimulated(t *testing.T) {
	sound, all := unclean(t)
	count := map[string]int{}
	for seed := uint64(1); seed <= uint64(*repairCases); seed++ {
		if *repairSeed != 0 {
			seed = *repairSeed
		}
		class, err := repairOne(t, sound, all, seed)
		if err != nil {
			t.Fatalf("%v\nreplay: go test ./store -run '^TestRepairSimulated$' -repair.seed=%d", err, seed)
		}
		if *repairSeed != 0 {
			t.Log(class)
			return
		}
		count[class]++
	}
	t.Log(count)
	require.Greater(t, count["covered"], *repairCases/10)
}

func repairOne(t *testing.T, sound *machine, all []kept, seed uint64) (class string, err error) {
	rnd := rand.New(rand.NewPCG(seed, 14))
	sim := sound.sim.Kill()
	if seed%3 == 0 {
		sim = sound.sim.PowerCut(crash.Random(0.5), seed)
	}
	m := &machine{t, sim, sim.FS(), sound.clock}
	var names []string
	watermark := m.files()["ember/synced"]
	for name, b := range m.files() {
		if name != "lock" && strings.Trim(b, "\x00") != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var what []string
	for range 1 + rnd.IntN(3) {
		w, err := hurt(sim, names, rnd)
		if err != nil && len(what) == 0 {
			return "", err
		}
		what = append(what, w)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", strings.Join(what, "; "), err)
		}
	}()
	before := m.files()
	// Without a watermark, damage within W of the end is taken for a torn tail: what is
	// behind it is aside.
	if before["ember/synced"] != watermark {
		all = nil
	}
	opts := []store.Option{store.WithEnvironment(env.Env{Open: func(string, bool) (fs.FS, error) { return m.root, nil }, Clock: m.clock, Manual: true, PID: 7})}
	report, err := store.Repair(ctx, "machine", opts...)
	if err != nil {
		return "", fmt.Errorf("repair: %w", err)
	}
	if len(report.Left) > 0 {
		return "", fmt.Errorf("left: %v", report.Left)
	}
	if err := logKept(before, m.files()); err != nil {
		return "", err
	}
	s, err := store.Open("machine", opts...)
	if err != nil {
		return "", fmt.Errorf("open: %w", err)
	}
	err = errors.Join(stillThere(s, before, all), sane(s), s.Close())
	if err != nil {
		return "", err
	}
	again, err := store.Repair(ctx, "machine", opts...)
	if err != nil || len(again.Found)+len(again.Covered)+len(again.Left) > 0 || again.Aside != "" {
		return "", fmt.Errorf("a second repair: %+v, %v", again, err)
	}
	switch {
	case len(report.Covered) > 0:
		return "covered", nil
	case len(report.Found) > 0:
		return "built anew", nil
	}
	return "nothing to do", nil
}

func sane(s *store.Store) error {
	r, err := s.Check(ctx)
	if err == nil && !r.OK() {
		err = fmt.Errorf("check: %v", r.Damages)
	}
	return err
}

// stillThere looks for every synced message whose record was whole before the repair.
func stillThere(s *store.Store, before map[string]string, all []kept) error {
	const size = 16 << 10
	for _, k := range all {
		file := before[fmt.Sprintf("commitlog/%020d", k.Position/size*size)]
		at := k.Position % size
		if !k.synced || int64(len(file)) < at+int64(len(k.bytes)) || file[at:at+int64(len(k.bytes))] != string(k.bytes) {
			continue
		}
		b, err := s.Read(ctx, k.Queue, k.Offset, message.Limit{Count: 1}, nil)
		if err != nil || len(b.Records) == 0 || string(b.Records[0].Body()) != k.body || b.Records[0].Offset() != k.Offset {
			return fmt.Errorf("record %d of %s at %d was whole and is not read: %v", k.Offset, k.Queue, k.Position, err)
		}
	}
	return nil
}

// logKept demands that every byte of the log is where it was, or aside.
func logKept(before, now map[string]string) error {
	aside := map[int64][]byte{} // by position, the bytes that were there
	for name, b := range now {
		base := path.Base(name)
		segment, from, cut := strings.Cut(base, "-")
		switch {
		case !strings.HasPrefix(name, "ember/aside/"):
		case segment == "commitlog": // of a recovery: runs of position, length, bytes
			for len(b) >= 16 {
				at, n := binary.BigEndian.Uint64([]byte(b)), binary.BigEndian.Uint64([]byte(b[8:]))
				n = min(n, uint64(len(b)-16))
				for i := range int64(n) {
					aside[int64(at)+i] = append(aside[int64(at)+i], b[16+i])
				}
				b = b[16+n:]
			}
		case strings.Contains(name, "/commitlog/"): // of a repair: a segment's name and where
			at := must(strconv.ParseInt(segment, 10, 64))
			if cut {
				at += must(strconv.ParseInt(from, 10, 64))
			}
			for i := range int64(len(b)) {
				aside[at+i] = append(aside[at+i], b[i])
			}
		}
	}
	for name, b := range before {
		segment, ok := strings.CutPrefix(name, "commitlog/")
		if !ok {
			continue
		}
		at := must(strconv.ParseInt(segment, 10, 64))
		for i := range int64(len(b)) {
			here := i < int64(len(now[name])) && now[name][i] == b[i]
			if b[i] != 0 && !here && !slices.Contains(aside[at+i], b[i]) {
				return fmt.Errorf("byte %d of %s is gone", i, name)
			}
		}
	}
	return nil
}
