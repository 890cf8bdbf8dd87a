package main

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"github.com/tidwall/wal"
	etcd "go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/embermq/embermq/message"
)

// Logs that one writer feeds. None has a place for how far a reader is.

type tidwallPeer struct {
	gatherer
	log  *wal.Log
	last uint64
	b    wal.Batch
}

// tidwallIn writes each batch with one write call, and a sync unless told not to.
func tidwallIn(d message.Durability) library {
	return library{"tidwall/wal", d, true, func(dir string) (peer, error) {
		o := *wal.DefaultOptions
		o.NoSync = d == message.InCache
		l, err := wal.Open(filepath.Join(dir, "wal"), &o)
		if err != nil {
			return nil, err
		}
		p := &tidwallPeer{log: l}
		p.write = func(bodies [][]byte) error {
			for _, body := range bodies {
				p.last++
				p.b.Write(p.last, body)
			}
			return l.WriteBatch(&p.b)
		}
		return p, nil
	}}
}

func (p *tidwallPeer) drain(n int, stop *atomic.Bool) (int, error) {
	for i := range n {
		if stop.Load() {
			return i, nil
		}
		if _, err := p.log.Read(uint64(i + 1)); err != nil {
			return i, err
		}
	}
	return n, nil
}

func (p *tidwallPeer) close() error { return p.log.Close() }

type raftPeer struct {
	gatherer
	log  *raftwal.WAL
	last uint64
}

// raftWAL always syncs.
func raftWAL() library {
	return library{"raft-wal", message.OnDisk, true, func(dir string) (peer, error) {
		l, err := raftwal.Open(dir)
		if err != nil {
			return nil, err
		}
		p := &raftPeer{log: l}
		p.write = func(bodies [][]byte) error {
			logs := make([]*raft.Log, len(bodies))
			for i, body := range bodies {
				p.last++
				logs[i] = &raft.Log{Index: p.last, Term: 1, Data: body, AppendedAt: time.Unix(1, 0)}
			}
			return l.StoreLogs(logs)
		}
		return p, nil
	}}
}

func (p *raftPeer) drain(n int, stop *atomic.Bool) (int, error) {
	var l raft.Log
	for i := range n {
		if stop.Load() {
			return i, nil
		}
		if err := p.log.GetLog(uint64(i+1), &l); err != nil {
			return i, err
		}
	}
	return n, nil
}

func (p *raftPeer) close() error { return p.log.Close() }

type etcdPeer struct {
	gatherer
	dir  string
	log  *etcd.WAL
	last uint64
}

// etcdWAL syncs whenever it saves entries.
func etcdWAL() library {
	return library{"etcd-wal", message.OnDisk, true, func(dir string) (peer, error) {
		p := &etcdPeer{dir: filepath.Join(dir, "wal")}
		var err error
		if p.log, err = etcd.Create(zap.NewNop(), p.dir, nil); err != nil {
			return nil, err
		}
		p.write = p.save
		return p, nil
	}}
}

func (p *etcdPeer) save(bodies [][]byte) error {
	term, kind := uint64(1), raftpb.EntryNormal
	entries := make([]*raftpb.Entry, len(bodies))
	for i, body := range bodies {
		p.last++
		index := p.last
		entries[i] = &raftpb.Entry{Term: &term, Index: &index, Type: &kind, Data: body}
	}
	return p.log.Save(&raftpb.HardState{Term: &term, Commit: &p.last}, entries)
}

// drain closes the log, because it can be read as a whole only.
func (p *etcdPeer) drain(n int, _ *atomic.Bool) (int, error) {
	if err := p.log.Close(); err != nil {
		return 0, err
	}
	p.log = nil
	r, err := etcd.OpenForRead(zap.NewNop(), p.dir, &walpb.Snapshot{})
	if err != nil {
		return 0, err
	}
	_, _, entries, err := r.ReadAll()
	if err == nil && len(entries) < n {
		err = fmt.Errorf("%d entries instead of %d", len(entries), n)
	}
	_ = r.Close() // a log that is read has no folder open, and says so
	return len(entries), err
}

func (p *etcdPeer) close() error {
	if p.log == nil {
		return nil
	}
	return p.log.Close()
}
