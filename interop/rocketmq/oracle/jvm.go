package oracle

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// JVM is one Java process.
type JVM struct {
	// Java is the version of the virtual machine; Booted is how long it took
	// from the start of the process to its first reply.
	Java   string
	Booted time.Duration

	cmd    *exec.Cmd
	stderr tail
	done   chan struct{} // closed when the process has ended and replies are read

	write struct {
		sync.Mutex
		to io.WriteCloser
	}
	mu struct {
		sync.Mutex
		last    int64
		waiting map[int64]chan []byte
		err     error // why no more replies come
	}
}

// Start builds the Java program if needed and starts a process. End it with
// Close or Halt.
func Start(ctx context.Context) (*JVM, error) {
	classPath, err := ClassPath(ctx, StoreOnly)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	j := &JVM{done: make(chan struct{})}
	j.mu.waiting = make(map[int64]chan []byte)
	// Every store has a direct buffer of the largest body that it takes.
	j.cmd = exec.Command("java", "-Xmx1g", "-XX:MaxDirectMemorySize=1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Duser.timezone=UTC", "-cp", classPath, "oracle.Oracle")
	j.cmd.Stderr = &j.stderr
	if j.write.to, err = j.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("oracle: %w", err)
	}
	replies, err := j.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("oracle: %w", err)
	}
	if err := j.cmd.Start(); err != nil {
		return nil, fmt.Errorf("oracle: %w", err)
	}
	go j.listen(replies)
	var hello struct{ Java string }
	if err := j.Call(ctx, "hello", nil, &hello); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	j.Java, j.Booted = hello.Java, time.Since(began)
	return j, nil
}

// listen hands replies to their callers until the process ends.
func (j *JVM) listen(replies io.Reader) {
	defer close(j.done)
	in := bufio.NewReaderSize(replies, 1<<20)
	var err error
	for {
		var line []byte
		if line, err = in.ReadBytes('\n'); err != nil {
			break
		}
		number, reply, _ := bytes.Cut(line, []byte(" "))
		id, e := strconv.ParseInt(string(number), 10, 64)
		if e != nil {
			err = fmt.Errorf("reply %.200q: %w", line, e)
			_ = j.cmd.Process.Kill()
			break
		}
		j.mu.Lock()
		c := j.mu.waiting[id]
		delete(j.mu.waiting, id)
		j.mu.Unlock()
		if c != nil {
			c <- reply
		}
	}
	_, _ = io.Copy(io.Discard, in)
	_ = j.cmd.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.mu.err = fmt.Errorf("oracle: the Java process has ended (%v): %w\n%s", j.cmd.ProcessState, err, j.stderr.String())
	for _, c := range j.mu.waiting {
		close(c)
	}
	clear(j.mu.waiting)
}

// Call sends one request and decodes the reply into result. args is encoded as a
// JSON object, or nil. An error that Java reports has its text.
func (j *JVM) Call(ctx context.Context, op string, args, result any) error {
	reply, err := j.send(op, args)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("oracle: %s: %w", op, ctx.Err())
	case line, ok := <-reply:
		if !ok {
			j.mu.Lock()
			defer j.mu.Unlock()
			return fmt.Errorf("oracle: %s: %w", op, j.mu.err)
		}
		if reason, failed := bytes.CutPrefix(line, []byte("!")); failed {
			return fmt.Errorf("oracle: %s: %s", op, bytes.TrimSpace(reason))
		}
		if result == nil {
			return nil
		}
		if err := json.Unmarshal(line, result); err != nil {
			return fmt.Errorf("oracle: %s: reply %.300q: %w", op, line, err)
		}
		return nil
	}
}

func (j *JVM) send(op string, args any) (<-chan []byte, error) {
	body := []byte("{}")
	if args != nil {
		var err error
		if body, err = json.Marshal(args); err != nil {
			return nil, fmt.Errorf("oracle: %s: %w", op, err)
		}
	}
	c := make(chan []byte, 1)
	j.mu.Lock()
	if j.mu.err != nil {
		defer j.mu.Unlock()
		return nil, j.mu.err
	}
	j.mu.last++
	id := j.mu.last
	j.mu.waiting[id] = c
	j.mu.Unlock()
	line := fmt.Appendf(nil, `{"id":%d,"op":%q`, id, op)
	if rest := bytes.TrimPrefix(body, []byte("{")); len(rest) > 1 {
		line = append(append(line, ','), rest...)
	} else {
		line = append(line, '}')
	}
	line = append(line, '\n')
	j.write.Lock()
	defer j.write.Unlock()
	// A process that has ended closes c; the error of the pipe says no more.
	_, _ = j.write.to.Write(line)
	return c, nil
}

// Halt ends the process as kill -9 does, with every store that is open, and
// waits until it is gone.
func (j *JVM) Halt() error {
	if _, err := j.send("halt", nil); err != nil {
		return err
	}
	<-j.done
	return nil
}

// Close ends the process; stores that are still open are killed, not closed.
// It may be called again.
func (j *JVM) Close() error {
	_ = j.write.to.Close()
	_ = j.cmd.Process.Kill()
	<-j.done
	return nil
}

// tail keeps the last bytes that the process wrote to its standard error.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > 8<<10 {
		t.b = t.b[len(t.b)-4<<10:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
