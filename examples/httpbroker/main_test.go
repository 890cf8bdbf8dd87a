package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// clientOf, in the environment, makes this program a client of a broker.
const clientOf = "HTTPBROKER_CLIENT_OF"

func TestMain(m *testing.M) {
	if url := os.Getenv(clientOf); url != "" {
		if err := client(url, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// client receives, prints and acknowledges messages until there are none. It stops
// after the first one until it gets a line.
func client(url string, in io.Reader, out io.Writer) error {
	for n := 1; ; n = 7 {
		code, got, err := receive(url, n, 2*time.Second)
		if code == http.StatusNoContent || err != nil {
			return err
		}
		var receipts []string
		for _, m := range got {
			fmt.Fprintf(out, "%s\n", m.Body)
			receipts = append(receipts, m.Receipt)
		}
		if n == 1 {
			if _, err := bufio.NewReader(in).ReadString('\n'); err != nil {
				return err
			}
		}
		if code, err := ack(url, receipts...); code != http.StatusNoContent {
			return fmt.Errorf("ack: %d, %w", code, err)
		}
	}
}

// post returns the code and the body of an answer.
func post(url string, body []byte) (int, []byte, error) {
	r, err := http.Post(url, "", bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, b, err
}

func receive(url string, most int, wait time.Duration) (code int, got []received, err error) {
	code, b, err := post(fmt.Sprintf("%s/receive?max=%d&wait=%v", url, most, wait), nil)
	if err == nil && code == http.StatusOK {
		err = json.Unmarshal(b, &got)
	}
	return code, got, err
}

func ack(url string, receipts ...string) (int, error) {
	b, err := json.Marshal(receipts)
	if err != nil {
		return 0, err
	}
	code, b, err := post(url+"/ack", b)
	if err == nil && code >= 400 {
		err = fmt.Errorf("%s", bytes.TrimSpace(b))
	}
	return code, err
}

func lag(t *testing.T, url string) (n int) {
	t.Helper()
	r, err := http.Get(url + "/lag")
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, http.StatusOK, r.StatusCode)
	var l struct{ Records int }
	require.NoError(t, json.NewDecoder(r.Body).Decode(&l))
	return l.Records
}

// start serves a directory; stop ends the broker.
func start(t *testing.T, dir string, invisible time.Duration) (url string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, dir, l, invisible) }()
	running := true
	stop = func() {
		if cancel(); running {
			running = false
			require.NoError(t, <-ended)
		}
	}
	t.Cleanup(stop)
	return "http://" + l.Addr().String() + "/topics/orders", stop
}

func send(t *testing.T, url string, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		code, answer, err := post(url+"/messages", []byte(body))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, code, string(answer))
	}
}

// process is a client in a process of its own.
type process struct {
	*exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	seen []string
}

// startClient returns once the client has its first message.
func startClient(t *testing.T, url string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0])}
	p.Env = append(os.Environ(), clientOf+"="+url)
	p.Stderr = os.Stderr
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	p.out = bufio.NewReader(out)
	p.in, err = p.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	line, err := p.out.ReadString('\n')
	require.NoError(t, err)
	p.seen = []string{strings.TrimSpace(line)}
	return p
}

// finish lets the client go on, and returns all that it has received.
func (p *process) finish(t *testing.T) []string {
	t.Helper()
	_, err := io.WriteString(p.in, "go on\n")
	require.NoError(t, err)
	rest, err := io.ReadAll(p.out)
	require.NoError(t, err)
	require.NoError(t, p.Wait())
	return append(p.seen, strings.Fields(string(rest))...)
}

func numbered(n int) (bodies []string) {
	for i := range n {
		bodies = append(bodies, fmt.Sprint("order-", i))
	}
	return bodies
}

// Two processes share the messages of a group, and each one goes to one of them.
func TestTwoClients(t *testing.T) {
	url, stop := start(t, t.TempDir(), time.Minute)
	bodies := numbered(200)
	send(t, url, bodies...)
	group := url + "/groups/billing"
	a, b := startClient(t, group), startClient(t, group)
	require.Equal(t, len(bodies), lag(t, group))
	// Both wait with a message in hand; now the rest.
	fromA := make(chan []string, 1)
	go func() { fromA <- a.finish(t) }()
	got := append(b.finish(t), <-fromA...)
	require.ElementsMatch(t, bodies, got)
	require.Zero(t, lag(t, group))
	stop()
}

// What a client had when it was killed goes to the next one.
func TestKilledClient(t *testing.T) {
	url, _ := start(t, t.TempDir(), 50*time.Millisecond)
	send(t, url, "one")
	group := url + "/groups/billing"
	a := startClient(t, group)
	require.NoError(t, a.Process.Kill())
	require.Error(t, a.Wait())
	code, got, err := receive(group, 1, 20*time.Second)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "one", string(got[0].Body))
	require.Equal(t, 2, got[0].Attempt)
}

// A receipt counts after a restart of the broker, once.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	url, stop := start(t, dir, time.Minute)
	send(t, url, "one", "two")
	code, got, err := receive(url+"/groups/billing", 1, time.Second)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	stop()

	url, _ = start(t, dir, time.Minute)
	group := url + "/groups/billing"
	require.Equal(t, 2, lag(t, group))
	code, err = ack(group, got[0].Receipt)
	require.NoError(t, err)
	require.Equal(t, http.StatusNoContent, code)
	require.Equal(t, 1, lag(t, group))
	// The other message is free, and the only one.
	code, rest, err := receive(group, 10, time.Second)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	require.Len(t, rest, 1)
	require.NotEqual(t, got[0].Body, rest[0].Body)
}

// A receive waits for a message; the end of the broker ends it.
func TestLongPoll(t *testing.T) {
	url, stop := start(t, t.TempDir(), time.Minute)
	group := url + "/groups/billing"
	type answer struct {
		code int
		got  []received
		err  error
	}
	answers := make(chan answer)
	poll := func() {
		code, got, err := receive(group, 10, 20*time.Second)
		answers <- answer{code, got, err}
	}
	go poll()
	send(t, url, "late")
	a := <-answers
	require.NoError(t, a.err)
	require.Equal(t, http.StatusOK, a.code)
	require.Equal(t, "late", string(a.got[0].Body))
	go poll()
	stop()
	a = <-answers
	require.True(t, a.err != nil || a.code == http.StatusServiceUnavailable, "%+v", a)
}

func TestErrors(t *testing.T) {
	url, _ := start(t, t.TempDir(), time.Minute)
	send(t, url, "one")
	group := url + "/groups/billing"
	for what, want := range map[string]int{
		group + "/receive?max=0&wait=1s":            http.StatusBadRequest,
		group + "/receive?max=1&wait=soon":          http.StatusBadRequest,
		url + "/groups/b%20b/receive?max=1&wait=1s": http.StatusBadRequest,
		group + "/ack": http.StatusBadRequest,
		strings.Replace(url, "orders", "a:b", 1) + "/messages": http.StatusBadRequest,
		group + "/nothing": http.StatusNotFound,
	} {
		code, _, err := post(what, nil)
		require.NoError(t, err)
		require.Equal(t, want, code, what)
	}
	code, _, err := post(url+"/messages", make([]byte, maxBody+1))
	require.NoError(t, err)
	require.Equal(t, http.StatusRequestEntityTooLarge, code)

	code, got, err := receive(group, 1, time.Second)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, code)
	code, err = ack(group, got[0].Receipt)
	require.NoError(t, err)
	require.Equal(t, http.StatusNoContent, code)
	code, _ = ack(group, got[0].Receipt)
	require.Contains(t, []int{http.StatusNoContent, http.StatusConflict}, code)
	// The group has its subscription; another topic is refused.
	send(t, strings.Replace(url, "orders", "other", 1), "two")
	code, _, err = receive(strings.Replace(group, "orders", "other", 1), 1, time.Second)
	require.NoError(t, err)
	require.Equal(t, http.StatusConflict, code)
}
