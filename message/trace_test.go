package message_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/message"
)

// The rows follow the rules and examples of the W3C Trace Context
// recommendation, sections 3.2.2 and 4.
func TestParseTraceparent(t *testing.T) {
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	cases := []struct {
		name, header string
		ok           bool
		version      byte
		flags        byte
	}{
		{"sampled", "00-" + trace + "-" + span + "-01", true, 0, 1},
		{"not_sampled", "00-" + trace + "-" + span + "-00", true, 0, 0},
		{"example_of_header", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true, 0, 1},
		{"unknown_flags", "00-" + trace + "-" + span + "-09", true, 0, 9},
		{"all_flags", "00-" + trace + "-" + span + "-ff", true, 0, 0xff},
		{"later_version", "01-" + trace + "-" + span + "-01", true, 1, 1},
		{"later_version_goes_on", "cc-" + trace + "-" + span + "-01-what-the-future-will-be-like", true, 0xcc, 1},
		{"later_version_ends_in_dash", "cc-" + trace + "-" + span + "-01-", true, 0xcc, 1},
		{"later_version_without_dash", "cc-" + trace + "-" + span + "-01.what", false, 0, 0},
		{"version_ff", "ff-" + trace + "-" + span + "-01", false, 0, 0},
		{"version_0_goes_on", "00-" + trace + "-" + span + "-01-more", false, 0, 0},
		{"version_0_ends_in_dash", "00-" + trace + "-" + span + "-01-", false, 0, 0},
		{"zero_trace", "00-00000000000000000000000000000000-" + span + "-01", false, 0, 0},
		{"zero_span", "00-" + trace + "-0000000000000000-01", false, 0, 0},
		{"upper_case", "00-0AF7651916CD43DD8448EB211C80319C-" + span + "-01", false, 0, 0},
		{"upper_case_version", "0A-" + trace + "-" + span + "-01", false, 0, 0},
		{"upper_case_flags", "00-" + trace + "-" + span + "-0A", false, 0, 0},
		{"not_hex_trace", "00-.234567890123456789012345678901x-" + span + "-01", false, 0, 0},
		{"not_hex_span", "00-" + trace + "-b7ad6b716920333g-01", false, 0, 0},
		{"not_hex_version", ".0-" + trace + "-" + span + "-01", false, 0, 0},
		{"not_hex_flags", "00-" + trace + "-" + span + "-.0", false, 0, 0},
		{"short_trace", "00-0af7651916cd43dd8448eb211c8031-" + span + "-01", false, 0, 0},
		{"long_trace", "00-" + trace + "00-" + span + "-01", false, 0, 0},
		{"short_span", "00-" + trace + "-b7ad6b71692033-01", false, 0, 0},
		{"short_flags", "00-" + trace + "-" + span + "-1", false, 0, 0},
		{"no_flags", "00-" + trace + "-" + span, false, 0, 0},
		{"underscores", "00_" + trace + "_" + span + "_01", false, 0, 0},
		{"space_in_front", " 00-" + trace + "-" + span + "-01", false, 0, 0},
		{"empty", "", false, 0, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, ok := message.ParseTraceparent(c.header)
			require.Equal(t, c.ok, ok)
			require.Equal(t, c.version, p.Version)
			require.Equal(t, c.flags, p.Flags)
			require.Equal(t, c.ok && c.flags&1 == 1, p.Sampled())
			if ok {
				require.Equal(t, c.header[3:35], p.TraceID)
				require.Equal(t, c.header[36:52], p.SpanID)
			}
		})
	}
}

// The headers of the W3C's own test suite (w3c/trace-context, test/test.py), under the
// names that they have there: whether the trace goes on or is to be started anew.
func TestW3CTraceparent(t *testing.T) {
	const trace, span = "12345678901234567890123456789012", "1234567890123456"
	good := "00-" + trace + "-" + span + "-01"
	for _, c := range []struct {
		name, header string
		goesOn       bool
	}{
		{"tracestate_missing", good, true},
		{"version_0x00", good + ".", false},
		{"version_0x00", good + "-what-the-future-will-be-like", false},
		{"version_0xcc", "cc" + good[2:], true},
		{"version_0xcc", "cc" + good[2:] + "-what-the-future-will-be-like", true},
		{"version_0xcc", "cc" + good[2:] + ".what-the-future-will-be-like", false},
		{"version_0xff", "ff" + good[2:], false},
		{"version_illegal_characters", "." + good[1:], false},
		{"version_illegal_characters", "0." + good[2:], false},
		{"version_too_long", "0" + good, false},
		{"version_too_long", "00" + good, false},
		{"version_too_short", good[1:], false},
		{"trace_id_all_zero", "00-00000000000000000000000000000000-" + span + "-01", false},
		{"trace_id_illegal_characters", "00-." + trace[1:] + "-" + span + "-01", false},
		{"trace_id_illegal_characters", "00-" + trace[:31] + ".-" + span + "-01", false},
		{"trace_id_too_long", "00-" + trace + "3-" + span + "-01", false},
		{"trace_id_too_short", "00-" + trace[:31] + "-" + span + "-01", false},
		{"parent_id_all_zero", "00-" + trace + "-0000000000000000-01", false},
		{"parent_id_illegal_characters", "00-" + trace + "-." + span[1:] + "-01", false},
		{"parent_id_illegal_characters", "00-" + trace + "-" + span[:15] + ".-01", false},
		{"parent_id_too_long", "00-" + trace + "-" + span + "7-01", false},
		{"parent_id_too_short", "00-" + trace + "-" + span[:15] + "-01", false},
		{"trace_flags_illegal_characters", "00-" + trace + "-" + span + "-.0", false},
		{"trace_flags_illegal_characters", "00-" + trace + "-" + span + "-0.", false},
		{"trace_flags_too_long", "00-" + trace + "-" + span + "-001", false},
		{"trace_flags_too_short", "00-" + trace + "-" + span + "-1", false},
		// Blanks around a header are HTTP's, which strips them. A property has none.
		{"ows_handling", " " + good, false},
		{"ows_handling", "\t" + good, false},
		{"ows_handling", good + " ", false},
		{"ows_handling", good + "\t", false},
	} {
		p, ok := message.ParseTraceparent(c.header)
		require.Equal(t, c.goesOn, ok, "%s: %s", c.name, c.header)
		if ok {
			require.Equal(t, message.Traceparent{Version: p.Version, TraceID: trace, SpanID: span, Flags: 1}, p)
		}
		// A state goes with its parent, letter by letter: nobody here reads it.
		const state = "rojo=00f067aa0ba902b7,congo@vendor=t61rcWkgMzE,foo=1"
		m := &message.Message{Topic: "t", Properties: map[string]string{message.PropTraceparent: c.header, message.PropTracestate: state}}
		r := encoded(t, m, nil)
		want := ""
		if c.goesOn {
			want = state
		}
		require.Equal(t, want, message.CarrierOfRecord(&r).Get(message.PropTracestate), c.header)
	}
	// tracestate_included_traceparent_missing
	r := encoded(t, &message.Message{Topic: "t", Properties: map[string]string{message.PropTracestate: "foo=1,bar=2"}}, nil)
	require.Empty(t, message.CarrierOfRecord(&r).Get(message.PropTracestate))
}

func TestCarriers(t *testing.T) {
	shared := map[string]string{"colour": "red"}
	m := &message.Message{Topic: "t", Properties: shared}
	c := message.CarrierOf(m)
	require.Empty(t, c.Get(message.PropTraceparent))
	const header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	c.Set(message.PropTraceparent, header)
	c.Set(message.PropTracestate, "a=b")
	require.ElementsMatch(t, []string{"colour", "traceparent", "tracestate"}, c.Keys())
	require.Equal(t, map[string]string{"colour": "red"}, shared, "the caller's map stays")

	r := encoded(t, m, nil)
	rc := message.CarrierOfRecord(&r)
	require.Equal(t, header, rc.Get(message.PropTraceparent))
	require.Equal(t, "a=b", rc.Get(message.PropTracestate))
	require.Contains(t, rc.Keys(), "colour")
	rc.Set("colour", "blue")
	require.Equal(t, "red", rc.Get("colour"))

	m.Properties[message.PropTraceparent] = "00-bad"
	r = encoded(t, m, nil)
	rc = message.CarrierOfRecord(&r)
	require.Empty(t, rc.Get(message.PropTraceparent))
	require.Empty(t, rc.Get(message.PropTracestate), "a state without its parent says nothing")
}

// encoded is m as the log would hold it.
func encoded(t *testing.T, m *message.Message, e *message.Envelope) message.Record {
	t.Helper()
	var d message.Draft
	require.NoError(t, d.Encode(m, message.Queue{Topic: m.Topic}, e))
	d.Stamp(1000, 7, 1_700_000_000_000)
	r, err := message.ParseRecord(append([]byte(nil), d.Bytes()...))
	require.NoError(t, err)
	require.NoError(t, r.VerifyChecksum())
	return r
}

func TestNamedMessages(t *testing.T) {
	m := &message.Message{Topic: "t", UniqueID: "0123ABCD", Body: []byte("b"),
		ReplyTo: &message.ReplyTo{Correlation: "c1", Client: "me", TTL: 1500e6}}
	r := encoded(t, m, nil)
	require.Equal(t, "0123ABCD", r.UniqueID())
	for name, want := range map[string]string{"CORRELATION_ID": "c1", "REPLY_TO_CLIENT": "me", "TTL": "1500"} {
		got, ok := r.Property(name)
		require.True(t, ok, name)
		require.Equal(t, want, got)
	}
	require.Empty(t, r.Message().UniqueID, "what is sent again is another message")
	require.Nil(t, r.Message().ReplyTo)

	// The store's own name for a record counts more than the user's.
	r = encoded(t, m, &message.Envelope{Reserved: []message.Property{{Name: message.PropUniqKey, Value: "other"}}})
	require.Equal(t, "other", r.UniqueID())

	bad := map[string]*message.Message{
		"UniqueID":       {Topic: "t", UniqueID: "a b"},
		"separator":      {Topic: "t", UniqueID: "a\x01b"},
		"no correlation": {Topic: "t", ReplyTo: &message.ReplyTo{Client: "x"}},
		"no client":      {Topic: "t", ReplyTo: &message.ReplyTo{Correlation: "x"}},
		"ttl":            {Topic: "t", ReplyTo: &message.ReplyTo{Correlation: "x", Client: "y", TTL: -1}},
	}
	for name, m := range bad {
		var d message.Draft
		require.ErrorIs(t, d.Encode(m, message.Queue{Topic: "t"}, nil), message.ErrInvalidMessage, name)
		require.ErrorIs(t, m.Check(), message.ErrInvalidMessage, name)
	}
}

func TestInflateBody(t *testing.T) {
	plain := make([]byte, 10_000)
	for _, e := range []message.Encoding{message.Zlib, message.Zstd} {
		packed, err := message.Compress(nil, plain, e)
		require.NoError(t, err)
		r := encoded(t, &message.Message{Topic: "t", Body: packed, Encoding: e}, nil)
		require.Equal(t, packed, r.Body())
		require.ErrorIs(t, r.InflateBody(100), message.ErrTooLarge)
		require.Equal(t, e, r.Encoding())
		require.NoError(t, r.InflateBody(0))
		require.NoError(t, r.InflateBody(0))
		require.Equal(t, plain, r.Body())
		require.Equal(t, packed, r.StoredBody())
		require.Equal(t, message.None, r.Encoding())
		require.NoError(t, r.VerifyBody())
		require.NoError(t, r.VerifyChecksum())
		c := r.Clone()
		require.Equal(t, plain, c.Body())
		require.Equal(t, plain, r.Message().Body)
		require.Equal(t, message.None, r.Message().Encoding)

		// A copy of the record in another topic is compressed as before.
		var d message.Draft
		require.NoError(t, d.EncodeRecord(&r, message.Queue{Topic: "u"}, nil))
		d.Stamp(0, 0, 1)
		copied, err := message.ParseRecord(d.Bytes())
		require.NoError(t, err)
		require.Equal(t, e, copied.Encoding())
		require.Equal(t, packed, copied.Body())
		require.NoError(t, copied.VerifyBody())
	}
}
