package oracle

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Broker is a running broker with its name server and two clients, all in one
// Java process on 127.0.0.1.
type Broker struct {
	// Lines is what happened, closed when the process has ended: "broker" and
	// "clients" when they run, "got TOPIC QUEUE OFFSET BODY", "check BODY", and
	// "down" in the end.
	Lines <-chan string

	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr tail
	done   chan struct{}
}

// StartBroker starts a broker with a configuration file, a consumer of the
// topics, and a transaction producer that commits every half message which it is
// asked about unless its body ends with "no".
func StartBroker(ctx context.Context, config, consumer, producer string, topics ...string) (*Broker, error) {
	classPath, err := ClassPath(ctx, WithBroker)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	_, self, _, _ := runtime.Caller(0)
	args := []string{"-Xmx512m", "-XX:MaxDirectMemorySize=1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Duser.timezone=UTC",
		"-Djava.net.preferIPv4Stack=true", "-Drocketmq.home.dir=" + filepath.Dir(config), "-Duser.home=" + filepath.Dir(config),
		"-cp", classPath, filepath.Join(filepath.Dir(self), "broker", "Broker.java"), config, ports[0], ports[1], consumer, producer}
	b := &Broker{done: make(chan struct{})}
	b.cmd = exec.Command("java", append(args, topics...)...)
	b.cmd.Dir = filepath.Dir(config)
	b.cmd.Stderr = &b.stderr
	if b.stdin, err = b.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("oracle: %w", err)
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("oracle: %w", err)
	}
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("oracle: %w", err)
	}
	lines := make(chan string, 1<<16)
	b.Lines = lines
	go func() {
		defer close(b.done)
		defer close(lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			lines <- strings.TrimSpace(in.Text())
		}
		_ = b.cmd.Wait()
	}()
	return b, nil
}

// Stop shuts broker and clients down; they save where they are. The end comes
// when Lines is closed.
func (b *Broker) Stop() error { return b.stdin.Close() }

// Kill ends the process at once, if it still runs, and waits for that.
func (b *Broker) Kill() {
	_ = b.cmd.Process.Kill()
	go func() {
		for range b.Lines {
			continue
		}
	}()
	<-b.done
}

// Stderr is the end of what the process complained about.
func (b *Broker) Stderr() string { return b.stderr.String() }

func freePorts(n int) (ports []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("oracle: %w", err)
		}
		defer l.Close()
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}
