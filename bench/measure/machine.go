package measure

import (
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Machine says where and how figures were measured: a figure without it means
// little. It is saved beside results.json.
type Machine struct {
	System     string `json:"system"` // operating system and version
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	FileSystem string `json:"file_system"`
	Go         string `json:"go"`
	Commit     string `json:"commit"`
	Command    string `json:"command"`
	Time       string `json:"time"`
	Load       string `json:"load"` // before the run, where the system tells
}

// ThisMachine describes the machine, with the file system of a folder.
func ThisMachine(dir string) Machine {
	m := Machine{
		System: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version(),
		Commit: "unknown", Command: strings.Join(append([]string{"bench"}, os.Args[1:]...), " "),
		Time: time.Now().UTC().Format(time.RFC3339),
	}
	if out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		m.Commit = strings.TrimSpace(string(out))
	}
	m.platform(dir)
	return m
}

// String is one line for a table's caption.
func (m Machine) String() string {
	return strings.Join([]string{m.System, m.CPU, m.FileSystem, m.Go, "commit " + m.Commit}, ", ")
}

// Save writes the description as JSON.
func (m Machine) Save(name string) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}
