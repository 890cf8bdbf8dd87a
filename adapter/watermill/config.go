package watermill

import (
	"github.com/ThreeDotsLabs/watermill"
	wm "github.com/ThreeDotsLabs/watermill/message"

	"github.com/embermq/embermq/store"
)

// Config is shared by publishers and subscribers. The zero value is usable.
type Config struct {
	// Group is the consumer group of a subscriber; "watermill" if empty.
	Group string
	// Queues of topics that are made here; 1 if zero.
	Queues int
	// Key chooses the queue: messages with the same key keep their order. Without
	// it messages are spread evenly.
	Key func(topic string, m *wm.Message) string
	// Logger hears of what cannot be returned; silent if nil.
	Logger watermill.LoggerAdapter
}

func (c Config) normalise() Config {
	if c.Group == "" {
		c.Group = "watermill"
	}
	if c.Queues <= 0 {
		c.Queues = 1
	}
	if c.Logger == nil {
		c.Logger = watermill.NopLogger{}
	}
	return c
}

// topics makes what is missing.
type topics struct {
	s      *store.Store
	queues int
}
