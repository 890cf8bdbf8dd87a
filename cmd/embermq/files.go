package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/embermq/embermq/store"
)

func (a *app) stats() *cobra.Command {
	return &cobra.Command{
		Use: "stats", GroupID: "files", Args: cobra.NoArgs,
		Short:   "Print what the store holds and what the last Open did",
		Example: `  embermq stats`,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.read(func(s *store.Store) error {
				st := s.Stats()
				return a.one(row{
					{"log start", st.Log.Start}, {"log end", st.Log.Appended}, {"segments", st.Log.Segments},
					{"topics", st.Topics}, {"queues", st.Queues.Queues},
					{"closed cleanly", st.Recovery.Clean}, {"torn bytes", st.Recovery.CutBytes},
					{"records replayed", st.Recovery.Replayed}, {"views to rebuild", st.Recovery.Rebuilt},
					{"foreign ranges", len(st.Recovery.Foreign)}, {"opening took", st.Recovery.Took},
				})
			})
		},
	}
}

func (a *app) check() *cobra.Command {
	return &cobra.Command{
		Use: "check", GroupID: "files", Args: cobra.NoArgs,
		Short: "Read everything, compare it, and name damage by file and offset",
		Long: `Read everything, compare it, and name damage by file and offset. Nothing is changed.
The exit code is 1 when there is damage.`,
		Example: `  embermq check`,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.read(func(s *store.Store) error {
				bar := a.progress("reading", -1)
				report, err := s.Check(c.Context())
				_ = bar.Finish()
				if err != nil {
					return err
				}
				a.say("%d records, %d bytes, %d queues, %d entries, %d keys", report.Records, report.Bytes, report.Queues, report.Entries, report.Keys)
				if report.Blank > 0 {
					a.say("%d offsets have no record: retention or a repair has passed there", report.Blank)
				}
				return a.damages(report.Damages)
			})
		},
	}
}

// damages prints damage and makes the exit code say so.
func (a *app) damages(ds []store.Damage) error {
	if len(ds) == 0 {
		a.say("sound")
		return nil
	}
	err := a.rows(func(yield func(row, error) bool) {
		for _, d := range ds {
			if !yield(row{{"file", a.bad(d.Path)}, {"offset", d.Offset}, {"reason", d.Reason}}, nil) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return errDamage
}

func (a *app) repair() *cobra.Command {
	return &cobra.Command{
		Use: "repair", GroupID: "files", Args: cobra.NoArgs,
		Short: "Make a damaged directory one that opens again; deletes nothing",
		Long: `Make a damaged directory one that opens again. Every byte that is changed or taken out
lies in ember/aside first. Messages on both sides of the damage keep their offsets.`,
		Example: `  embermq repair`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.present(); err != nil {
				return err
			}
			bar := a.progress("repairing", -1)
			report, err := store.Repair(c.Context(), a.dir)
			_ = bar.Finish()
			if err != nil {
				return err
			}
			var lost int64
			for _, r := range report.Covered {
				lost += r.To - r.From
			}
			if err := a.one(row{{"damage found", len(report.Found)}, {"bytes of the log covered", lost}, {"settings lost", report.MetaLost}, {"kept in", report.Aside}}); err != nil {
				return err
			}
			return a.damages(report.Left)
		},
	}
}

func (a *app) backup() *cobra.Command {
	return &cobra.Command{
		Use: "backup FOLDER", GroupID: "files", Args: cobra.ExactArgs(1),
		Short: "Copy the store into a folder; later only what is new",
		Long: `Copy the store into a folder, compressed; the next time only what is new. A process that
has the store open does it by Store.Backup.`,
		Example: `  embermq backup copies`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.write(func(s *store.Store) error {
				bar := a.progress("copying", -1)
				r, err := s.Backup(c.Context(), args[0])
				_ = bar.Finish()
				if err != nil {
					return err
				}
				return a.one(row{{"log start", r.Start}, {"log end", r.End}, {"bytes copied", r.Copied}, {"bytes written", r.Written}})
			})
		},
	}
}

func (a *app) restore() *cobra.Command {
	return &cobra.Command{
		Use: "restore FOLDER", GroupID: "files", Args: cobra.ExactArgs(1),
		Short:   "Make the store's directory from a backup; it must be empty or missing",
		Example: `  embermq restore backup --dir restored`,
		RunE: func(c *cobra.Command, args []string) error {
			bar := a.progress("restoring", -1)
			err := store.Restore(c.Context(), args[0], a.dir)
			_ = bar.Finish()
			return err
		},
	}
}

func (a *app) fork() *cobra.Command {
	return &cobra.Command{
		Use: "fork FOLDER", GroupID: "files", Args: cobra.ExactArgs(1),
		Short: "Make a second store of the same past, by links to its sealed segments",
		Long: `Make a second store of the same past. On the same file system its sealed segments are
links, so this costs little: try a handler on real messages there.`,
		Example: `  embermq fork trial`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.write(func(s *store.Store) error {
				if err := s.Fork(c.Context(), args[0]); err != nil {
					return fmt.Errorf("fork: %w", err)
				}
				return nil
			})
		},
	}
}
