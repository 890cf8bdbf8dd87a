package crash

import (
	"slices"
	"strings"
)

// dirent is a name in a folder.
type dirent struct {
	name string
	ino  int
}

// gone in place of an inode number says that a name was taken away.
const gone = -1

// nameOp is one change of one name.
type nameOp struct {
	seq  int64
	name string
	ino  int // gone: the name was removed
	// needs is the change that gave the file its new name, when this one takes
	// the old name away.
	// Invariant: a rename never loses both names.
	needs change
}

// change points at a nameOp; seq 0 at none.
type change struct {
	dir int
	seq int64
}

func findName(names []dirent, name string) (int, bool) {
	return slices.BinarySearchFunc(names, name, func(d dirent, name string) int {
		return strings.Compare(d.name, name)
	})
}

// setName gives name to ino, or takes it away when ino is gone.
func setName(names []dirent, name string, ino int) []dirent {
	i, ok := findName(names, name)
	switch {
	case ino == gone && ok:
		return slices.Delete(names, i, i+1)
	case ino == gone:
		return names
	case ok:
		names[i].ino = ino
		return names
	}
	return slices.Insert(names, i, dirent{name: name, ino: ino})
}

// setName changes a name of dir in the cache and notes the change.
func (s *Sim) setName(dir int, name string, ino int, needs change) change {
	d := s.edit(dir)
	if i, ok := findName(d.names, name); ok {
		s.edit(d.names[i].ino).links--
	}
	d.names = setName(d.names, name, ino)
	s.seq++
	d.pending = append(d.pending, nameOp{seq: s.seq, name: name, ino: ino, needs: needs})
	if ino != gone {
		n := s.edit(ino)
		n.links++
		if p := join(d.path, name); n.path != p {
			n.path = p
			if n.dir {
				s.repath(ino)
			}
		}
	}
	return change{dir: dir, seq: s.seq}
}

// repath corrects the paths below a folder that was renamed.
func (s *Sim) repath(dir int) {
	d := s.inodes[dir]
	for _, e := range d.names {
		n := s.edit(e.ino)
		n.path = join(d.path, e.name)
		if n.dir {
			s.repath(e.ino)
		}
	}
}

// syncNames makes the names of dir durable, and with the removal of a name the
// new name that its file was given, wherever that is.
func (s *Sim) syncNames(dir int) {
	s.syncNamesIf(dir, func(nameOp) bool { return true })
}

func (s *Sim) syncNamesIf(dir int, yes func(op nameOp) bool) {
	if len(s.inodes[dir].pending) == 0 {
		return
	}
	d := s.edit(dir)
	ops := d.pending
	d.pending = nil
	for _, op := range ops {
		if yes(op) {
			d.diskNames = setName(d.diskNames, op.name, op.ino)
		} else {
			d.pending = append(d.pending, op)
		}
	}
	for _, op := range ops {
		if op.needs.seq != 0 && yes(op) {
			s.syncName(op.needs)
		}
	}
}

// syncName makes one change durable, with the earlier changes of its name.
func (s *Sim) syncName(c change) {
	ops := s.inodes[c.dir].pending
	k := slices.IndexFunc(ops, func(op nameOp) bool { return op.seq == c.seq })
	if k >= 0 {
		name := ops[k].name
		s.syncNamesIf(c.dir, func(op nameOp) bool { return op.seq <= c.seq && op.name == name })
	}
}

// lookup finds a clean slash-separated path.
func (s *Sim) lookup(path string) (ino int, ok bool) {
	if path == "." {
		return 0, true
	}
	for path != "" {
		name := path
		if i := strings.IndexByte(path, '/'); i >= 0 {
			name, path = path[:i], path[i+1:]
		} else {
			path = ""
		}
		d := s.inodes[ino]
		if !d.dir {
			return 0, false
		}
		i, found := findName(d.names, name)
		if !found {
			return 0, false
		}
		ino = d.names[i].ino
	}
	return ino, true
}

// parent finds the folder of path, and path's last element.
func (s *Sim) parent(path string) (dir int, base string, ok bool) {
	base = path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, ok = s.lookup(path[:i])
		base = path[i+1:]
	} else {
		ok = path != "."
	}
	return dir, base, ok && s.inodes[dir].dir
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	if name == "." {
		return dir
	}
	return dir + "/" + name
}
