package message

import (
	"iter"
	"maps"
	"slices"
	"strings"
)

// Names of the properties that carry a trace, as W3C Trace Context spells them.
const (
	PropTraceparent = "traceparent"
	PropTracestate  = "tracestate"
)

// Carrier is what a tracing library writes its headers to and reads them from.
// OpenTelemetry's propagators take it as it is.
type Carrier interface {
	// Get returns a header, "" if there is none.
	Get(key string) string
	// Set writes a header.
	Set(key, value string)
	// Keys lists the headers.
	Keys() []string
}

// CarrierOf returns a carrier of m's properties. Set replaces the map by a copy
// the first time, because messages may share one.
func CarrierOf(m *Message) Carrier { return &messageCarrier{m: m} }

type messageCarrier struct {
	m   *Message
	own bool
}

func (c *messageCarrier) Get(key string) string { return c.m.Properties[key] }

func (c *messageCarrier) Keys() []string { return slices.Collect(maps.Keys(c.m.Properties)) }

func (c *messageCarrier) Set(key, value string) {
	if !c.own {
		p := make(map[string]string, len(c.m.Properties)+2)
		maps.Copy(p, c.m.Properties)
		c.m.Properties, c.own = p, true
	}
	c.m.Properties[key] = value
}

// CarrierOfRecord returns a carrier that reads a record's properties; its Set
// does nothing. A malformed traceparent reads as none. What Get returns is the
// caller's, also after the record's bytes are gone.
func CarrierOfRecord(r *Record) Carrier { return recordCarrier{r} }

type recordCarrier struct{ r *Record }

func (c recordCarrier) Get(key string) string {
	if key == PropTraceparent || key == PropTracestate {
		v, _ := c.r.Property(PropTraceparent)
		if _, ok := ParseTraceparent(v); !ok {
			return ""
		}
	}
	v, _ := c.r.Property(key)
	return strings.Clone(v)
}

func (recordCarrier) Set(string, string) {}

func (c recordCarrier) Keys() []string {
	return slices.Collect(first(c.r.Properties()))
}

func first(s iter.Seq2[string, string]) iter.Seq[string] {
	return func(yield func(string) bool) {
		for k := range s {
			if !yield(strings.Clone(k)) {
				return
			}
		}
	}
}

// Traceparent is a W3C traceparent header, taken apart.
type Traceparent struct {
	Version byte
	TraceID string // 32 lower-case hex digits
	SpanID  string // 16 lower-case hex digits: the parent
	Flags   byte
}

// Sampled reports whether the caller may have recorded the trace.
func (t Traceparent) Sampled() bool { return t.Flags&1 != 0 }

// ParseTraceparent reads a traceparent header. ok is false for one that W3C
// Trace Context calls invalid: wrong lengths, digits that are not lower-case hex,
// version ff, ids of zeros only, anything behind a version 00 header. A header of
// a later version is read as far as version 00 goes and may go on behind a dash.
func ParseTraceparent(s string) (t Traceparent, ok bool) {
	const size = 2 + 1 + 32 + 1 + 16 + 1 + 2
	if len(s) < size || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return t, false
	}
	version, ok1 := lowerHexByte(s[0:2])
	flags, ok2 := lowerHexByte(s[53:55])
	t = Traceparent{Version: version, TraceID: s[3:35], SpanID: s[36:52], Flags: flags}
	switch {
	case !ok1, !ok2, version == 0xff,
		version == 0 && len(s) != size,
		len(s) > size && s[size] != '-',
		!traceID(t.TraceID), !traceID(t.SpanID):
		return Traceparent{}, false
	}
	return t, true
}

// traceID asks for lower-case hex digits that are not all zero.
func traceID(s string) bool {
	zero := true
	for i := range len(s) {
		if _, ok := lowerHex(s[i]); !ok {
			return false
		}
		zero = zero && s[i] == '0'
	}
	return !zero
}

func lowerHexByte(s string) (byte, bool) {
	a, ok1 := lowerHex(s[0])
	b, ok2 := lowerHex(s[1])
	return a<<4 | b, ok1 && ok2
}

func lowerHex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
