package fs

import (
	"path"
	"strings"
)

// Match says whether a pattern of the fault injectors means name: "" and "*"
// mean every name, "dir/" everything below dir, a pattern with a slash is
// matched against the whole name, any other against its last element, both by
// path.Match.
func Match(pattern, name string) bool {
	switch {
	case pattern == "" || pattern == "*":
		return true
	case strings.HasSuffix(pattern, "/"):
		return strings.HasPrefix(name, pattern)
	case !strings.Contains(pattern, "/"):
		name = path.Base(name)
	}
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}
