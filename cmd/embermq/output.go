package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"

	"github.com/embermq/embermq/message"
)

// field is a column of a table, or a name of a JSON object.
type field struct {
	name  string
	value any
}

type row []field

// MarshalJSON keeps the order of the fields.
func (r row) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range r {
		if i > 0 {
			b.WriteByte(',')
		}
		v, err := json.Marshal(plain(f.value))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q:%s", f.name, v)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// plain is how a value stands in JSON: text where the bytes are text.
func plain(v any) any {
	switch v := v.(type) {
	case time.Time:
		if v.IsZero() {
			return nil
		}
		return v.UTC().Format(time.RFC3339Nano)
	case time.Duration:
		return v.String()
	case fmt.Stringer:
		return v.String()
	case error:
		return v.Error()
	}
	return v
}

// rows prints a table, or one JSON object a line as they come.
func (a *app) rows(seq iter.Seq2[row, error]) error {
	if a.json {
		enc := json.NewEncoder(a.out)
		for r, err := range seq {
			if err != nil {
				return err
			}
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	first := !a.headless
	for r, err := range seq {
		if err != nil {
			return joinFlush(w, err)
		}
		if first {
			first = false
			head := make([]string, len(r))
			for i, f := range r {
				head[i] = strings.ToUpper(f.name)
			}
			fmt.Fprintln(w, strings.Join(head, "\t"))
		}
		cells := make([]string, len(r))
		for i, f := range r {
			cells[i] = cell(f.value)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

func joinFlush(w *tabwriter.Writer, err error) error {
	if ferr := w.Flush(); ferr != nil {
		return ferr
	}
	return err
}

// one prints a row as lines of name and value.
func (a *app) one(r row) error {
	if a.json {
		return json.NewEncoder(a.out).Encode(r)
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	for _, f := range r {
		fmt.Fprintf(w, "%s\t%s\n", f.name, cell(f.value))
	}
	return w.Flush()
}

// say prints a sentence, which JSON output leaves out.
func (a *app) say(format string, args ...any) {
	if !a.json {
		fmt.Fprintf(a.out, format+"\n", args...)
	}
}

// bad marks a line as trouble on a terminal.
func (a *app) bad(s string) string {
	if !a.colour {
		return s
	}
	return "\x1b[31m" + s + "\x1b[0m"
}

// progress shows how far a long command has come, on a terminal only. total may
// be -1.
func (a *app) progress(what string, total int64) *progressbar.ProgressBar {
	if !isTerminal(a.errs) {
		return progressbar.DefaultBytesSilent(total, what)
	}
	return progressbar.NewOptions64(total, progressbar.OptionSetDescription(what), progressbar.OptionSetWriter(a.errs),
		progressbar.OptionShowBytes(true), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
}

func cell(v any) string {
	switch v := v.(type) {
	case time.Time:
		if v.IsZero() {
			return "-"
		}
		return v.Local().Format("2006-01-02 15:04:05.000")
	case []string:
		return strings.Join(v, " ")
	case nil:
		return "-"
	case string:
		if v == "" {
			return "-"
		}
		return v
	}
	return fmt.Sprint(v)
}

// text shows a body: as it is when it is text, else as quoted bytes, cut to n.
func text(b []byte, n int) string {
	cut := ""
	if n > 0 && len(b) > n {
		b, cut = b[:n], "…"
		for len(b) > 0 && !utf8.Valid(b[max(0, len(b)-4):]) && n-len(b) < 4 {
			b = b[:len(b)-1]
		}
	}
	if utf8.Valid(b) && bytes.IndexFunc(b, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }) < 0 {
		return string(b) + cut
	}
	return fmt.Sprintf("%q", b) + cut
}

// recordRow is a message as peek, tail and query print it.
func (a *app) recordRow(q message.Queue, r *message.Record, more ...field) row {
	var keys []string
	for k := range r.Keys() {
		keys = append(keys, k)
	}
	props := map[string]string{}
	for k, v := range r.Properties() {
		props[k] = v
	}
	out := row{{"queue", q}, {"offset", r.Offset()}, {"stored", r.StoredAt()}, {"tag", r.Tag()}, {"keys", keys}}
	out = append(out, more...)
	if a.json {
		out = append(out, field{"position", r.Position()}, field{"attempt", r.Attempt()}, field{"properties", props})
		if b := r.Body(); utf8.Valid(b) {
			return append(out, field{"body", string(b)})
		}
		return append(out, field{"bytes", r.Body()})
	}
	return append(out, field{"body", text(r.Body(), 100)})
}
