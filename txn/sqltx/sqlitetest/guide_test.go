package sqlitetest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/embermq/embermq/consumer"
	"github.com/embermq/embermq/message"
	"github.com/embermq/embermq/store"
	"github.com/embermq/embermq/txn/sqltx"
)

// TestGuide runs the code of docs/guide/transactions.md: the function guide is the
// guide's blocks, letter by letter, and prints what the guide says.
func TestGuide(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		return string(b)
	}
	text := read(filepath.Join("..", "..", "..", "docs", "guide", "transactions.md"))
	blocks := func(kind string) (s string) {
		for _, m := range regexp.MustCompile("(?ms)^```"+kind+"\n(.*?)^```").FindAllStringSubmatch(text, -1) {
			s += m[1]
		}
		return s
	}
	words := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	_, body, _ := strings.Cut(read("guide_test.go"), "func guide(ctx context.Context, dir string, out io.Writer) error {\n")
	body, _, _ = strings.Cut(body, "\n}\n")
	require.NotEmpty(t, body)
	require.Equal(t, words(blocks("go")), words(body))

	var out bytes.Buffer
	require.NoError(t, guide(bg, t.TempDir(), &out))
	require.Equal(t, blocks("text"), out.String())
}

func guide(ctx context.Context, dir string, out io.Writer) error {
	s, err := store.Open(filepath.Join(dir, "queue"))
	if err != nil {
		return err
	}
	defer s.Close()
	db, err := sql.Open("sqlite", filepath.Join(dir, "bank.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE booked (name TEXT PRIMARY KEY)"); err != nil {
		return err
	}

	r, err := sqltx.New(db, s.Halves(), sqltx.Options{})
	if err != nil {
		return err
	}
	if err := r.Create(ctx); err != nil { // two small tables, unless they are there
		return err
	}
	stop, err := s.Halves().Attach("bank", r, message.CheckOptions{})
	if err != nil {
		return err
	}
	defer stop()
	book := func(name string) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		_, id, err := s.Halves().Prepare(ctx, &message.Message{Topic: "bookings", Body: []byte(name)}, "bank", message.HalfOptions{})
		if err != nil {
			return err
		}
		if _, err := tx.Exec("INSERT INTO booked (name) VALUES (?)", name); err != nil {
			_, rollback := s.Halves().Rollback(ctx, id)
			return errors.Join(err, rollback)
		}
		if err := r.Mark(ctx, tx, id); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		_, _, err = s.Halves().Commit(ctx, id) // sooner than the store would ask
		return err
	}
	for _, name := range []string{"Ada", "Bob", "Ada"} { // the second Ada breaks the key
		if err := book(name); err != nil {
			fmt.Fprintln(out, name, "was refused")
		}
	}
	if _, err := db.Exec("CREATE TABLE letters (name TEXT)"); err != nil {
		return err
	}
	ctx, done := context.WithCancel(ctx)
	defer done()
	c := consumer.NewPush(s, "letters", consumer.WithOrder(consumer.PerQueue),
		consumer.WithDeduper(consumer.DedupeInTransaction(r)))
	err = c.Subscribe("bookings", nil, consumer.One(func(ctx context.Context, d *consumer.Delivery) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.Exec("INSERT INTO letters (name) VALUES (?)", string(d.Body())); err != nil {
			return err
		}
		if err := r.Advance(ctx, tx, "letters", d.Queue(), d.Offset(), d.Offset()+1); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		fmt.Fprintln(out, "a letter to", string(d.Body()))
		if string(d.Body()) == "Bob" {
			done()
		}
		return nil
	}))
	if err != nil {
		return err
	}
	return c.Run(ctx)
}
