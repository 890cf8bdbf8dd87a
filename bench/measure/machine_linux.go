package measure

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func (m *Machine) platform(dir string) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.System = "Linux " + unix.ByteSliceToString(u.Release[:])
	}
	m.CPU = fmt.Sprintf("%d × %s", m.Cores, field("/proc/cpuinfo", "model name"))
	m.FileSystem = fileSystem(dir)
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load = strings.Join(strings.Fields(string(b))[:3], " ")
	}
}

// field is the value of the first line "name : value" of a file.
func field(file, name string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for l := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// fileSystem is the type and device of the mount that holds a folder.
func fileSystem(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return ""
	}
	defer f.Close()
	best, found := "", ""
	for sc := bufio.NewScanner(f); sc.Scan(); {
		p := strings.Fields(sc.Text()) // device, place, type
		inside := p[1] == "/" || abs == p[1] || strings.HasPrefix(abs, p[1]+"/")
		if inside && len(p[1]) >= len(best) {
			best, found = p[1], p[2]+" on "+p[0]
		}
	}
	return found
}

// Blocks is how many bytes a folder takes on disk.
func Blocks(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		n += info.Sys().(*syscall.Stat_t).Blocks * 512
		return nil
	})
	return n, err
}

// DeviceBytes is how much was written, since the machine started, to the device
// that holds a folder; false when the system does not tell.
func DeviceBytes(dir string) (int64, bool) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return 0, false
	}
	b, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return 0, false
	}
	var v [7]int64
	if _, err := fmt.Sscan(string(b), &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6]); err != nil {
		return 0, false
	}
	return v[6] * 512, true // sectors written
}

// AnonymousBytes is the memory of this process that is not a file's.
func AnonymousBytes() (int64, bool) {
	var kib int64
	if _, err := fmt.Sscanf(field("/proc/self/status", "RssAnon"), "%d kB", &kib); err != nil {
		return 0, false
	}
	return kib << 10, true
}

// DropPages asks the system to forget the cached pages of all files in a folder,
// so that the next read comes from the disk.
func DropPages(dir string) error {
	return filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := f.Sync(); err != nil {
			return err
		}
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}
