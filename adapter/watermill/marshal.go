package watermill

import (
	"fmt"
	"net/url"

	wm "github.com/ThreeDotsLabs/watermill/message"

	"github.com/embermq/embermq/message"
)

// Properties that hold what Watermill knows of a message. Values are
// percent-encoded, because a property is neither empty nor holds every byte.
const (
	propUUID     = "WATERMILL_UUID"
	propMetadata = "WATERMILL_METADATA"
)

func marshal(topic string, m *wm.Message) *message.Message {
	out := &message.Message{Topic: topic, Body: m.Payload, Properties: map[string]string{}}
	if m.UUID != "" {
		out.Properties[propUUID] = url.QueryEscape(m.UUID)
	}
	if len(m.Metadata) > 0 {
		v := make(url.Values, len(m.Metadata))
		for name, value := range m.Metadata {
			v.Set(name, value)
		}
		out.Properties[propMetadata] = v.Encode()
	}
	return out
}

// unmarshal also takes messages that others have put: those have no UUID of
// Watermill's, and get their place as one.
func unmarshal(r *message.Record) (*wm.Message, error) {
	uuid := fmt.Sprintf("%s@%d", r.Queue(), r.Offset())
	if v, ok := r.Property(propUUID); ok {
		var err error
		if uuid, err = url.QueryUnescape(v); err != nil {
			return nil, fmt.Errorf("watermill: property %s: %w", propUUID, err)
		}
	}
	m := wm.NewMessage(uuid, r.Body())
	if v, ok := r.Property(propMetadata); ok {
		values, err := url.ParseQuery(v)
		if err != nil {
			return nil, fmt.Errorf("watermill: property %s: %w", propMetadata, err)
		}
		for name := range values {
			m.Metadata.Set(name, values.Get(name))
		}
	}
	return m, nil
}
