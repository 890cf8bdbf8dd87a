package main

import (
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/embermq/embermq/message"
)

// JetStream's file store without the server around it: what is left when nobody
// pays for a client. The server does not export it, so it is reached by the names
// that the linker knows; link.s lets functions have no body.

//go:linkname newFileStore github.com/nats-io/nats-server/v2/server.newFileStore
func newFileStore(c server.FileStoreConfig, s server.StreamConfig) (unsafe.Pointer, error)

//go:linkname storeMsg github.com/nats-io/nats-server/v2/server.(*fileStore).StoreMsg
func storeMsg(fs unsafe.Pointer, subject string, header, body []byte, ttl int64) (uint64, int64, error)

//go:linkname loadMsg github.com/nats-io/nats-server/v2/server.(*fileStore).LoadMsg
func loadMsg(fs unsafe.Pointer, seq uint64, m *server.StoreMsg) (*server.StoreMsg, error)

//go:linkname stopStore github.com/nats-io/nats-server/v2/server.(*fileStore).Stop
func stopStore(fs unsafe.Pointer) error

type jetStorePeer struct{ fs unsafe.Pointer }

func jetStreamStore(d message.Durability) library {
	name := "jetstream store"
	if d == message.OnDisk {
		name = "jetstream store SyncAlways"
	}
	return library{name, d, false, func(dir string) (peer, error) {
		fs, err := newFileStore(server.FileStoreConfig{StoreDir: filepath.Join(dir, "store"), SyncAlways: d == message.OnDisk},
			server.StreamConfig{Name: subject, Subjects: []string{subject}, Storage: server.FileStorage})
		return &jetStorePeer{fs}, err
	}}
}

func (p *jetStorePeer) putter() (func(bodies ...[]byte) error, error) {
	return func(bodies ...[]byte) error {
		for _, b := range bodies {
			if _, _, err := storeMsg(p.fs, subject, nil, b, 0); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func (p *jetStorePeer) drain(n int, stop *atomic.Bool) (int, error) {
	var m server.StoreMsg
	for i := range n {
		if stop.Load() {
			return i, nil
		}
		if _, err := loadMsg(p.fs, uint64(i+1), &m); err != nil {
			return i, err
		}
	}
	return n, nil
}

func (p *jetStorePeer) close() error { return stopStore(p.fs) }
