package message

import (
	"slices"
	"strconv"
	"strings"
)

// Filter chooses records. A nil Filter chooses all. It is safe for concurrent
// use and does not keep the record.
type Filter interface {
	// Hashes are the tag hashes that a matching record can have, sorted; nil
	// means any. They allow a queue entry to be passed without its record.
	Hashes() []int64
	// Match looks at the record itself.
	Match(r *Record) bool
	// String is the expression in its normal form.
	String() string
}

// Tags makes a filter from tags separated by "||", such as "paid || shipped".
// Spaces around a tag do not count and empty parts are left out. An empty
// expression and "*" mean all records: the filter is then nil. An expression
// with separators and no tag is an error that names the place.
func Tags(expr string) (Filter, error) {
	if t := trimSpace(expr); t == "" || t == "*" {
		return nil, nil
	}
	f := &tagFilter{}
	for part := range strings.SplitSeq(expr, "||") {
		if t := trimSpace(part); t != "" && !slices.Contains(f.tags, t) {
			if err := checkText("filter", t); err != nil {
				return nil, err
			}
			f.tags = append(f.tags, t)
		}
	}
	if len(f.tags) == 0 {
		return nil, &InvalidError{Field: "filter", Reason: "no tag beside the || at column " +
			strconv.Itoa(strings.Index(expr, "||")+1)}
	}
	for _, t := range f.tags {
		f.hashes = append(f.hashes, TagHash(t))
	}
	slices.Sort(f.hashes)
	f.hashes = slices.Compact(f.hashes)
	return f, nil
}

// trimSpace trims what Java's String.trim does.
func trimSpace(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
}

// tagFilter matches records that have one of a few tags.
type tagFilter struct {
	tags   []string // in the order of the expression, each once
	hashes []int64
}

func (f *tagFilter) Hashes() []int64 { return f.hashes }

func (f *tagFilter) Match(r *Record) bool {
	tag := r.Tag()
	return tag != "" && slices.Contains(f.tags, tag)
}

func (f *tagFilter) String() string {
	if len(f.tags) == 1 && f.tags[0] == "*" {
		return "* ||" // the tag of that name; alone it would mean all
	}
	return strings.Join(f.tags, " || ")
}
