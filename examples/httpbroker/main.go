// Httpbroker is a small broker on top of a store, for programs that are not in its
// process: it sends, leases, acknowledges and tells the lag over HTTP.
//
//	go run ./examples/httpbroker -dir data -listen 127.0.0.1:8080
//
//	curl -d hello 'localhost:8080/topics/orders/messages?key=42'
//	curl -X POST 'localhost:8080/topics/orders/groups/billing/receive?max=10&wait=20s'
//	curl -d '["1:billing:orders:…"]' localhost:8080/topics/orders/groups/billing/ack
//	curl localhost:8080/topics/orders/groups/billing/lag
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/embermq/embermq/store"
)

func main() {
	dir := flag.String("dir", "embermq-data", "the store's directory")
	listen := flag.String("listen", "127.0.0.1:8080", "address to listen on")
	invisible := flag.Duration("invisible", time.Minute, "how long a client has for a message")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	l, err := net.Listen("tcp", *listen)
	if err == nil {
		err = run(ctx, *dir, l, *invisible)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "httpbroker:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, dir string, l net.Listener, invisible time.Duration) (err error) {
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	fmt.Println("serving", dir, "on", l.Addr())
	b := newBroker(s, invisible)
	// The end of ctx ends what clients wait for.
	h := &http.Server{Handler: b.handler(), BaseContext: func(net.Listener) context.Context { return ctx }}
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(l) }()
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(err, h.Shutdown(end), b.close(end))
}
