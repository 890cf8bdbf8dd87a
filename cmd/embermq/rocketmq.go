package main

import (
	"github.com/spf13/cobra"

	"github.com/embermq/embermq/interop"
)

func (a *app) exportRocketMQ() *cobra.Command {
	var inPlace bool
	c := &cobra.Command{
		Use: "export-rocketmq [FOLDER]", GroupID: "files", Args: cobra.MaximumNArgs(1),
		Short: "Hand the store to Apache RocketMQ, as a copy or in its own directory",
		Long: `Hand the store to Apache RocketMQ: a copy in a folder, which must be missing or empty, or
with --in-place the directory itself, which import-rocketmq takes back. The lines that it
prints belong into the broker's configuration.`,
		Example: `  embermq export-rocketmq for-rocketmq
  embermq export-rocketmq --in-place`,
		RunE: func(c *cobra.Command, args []string) error {
			if inPlace != (len(args) == 0) {
				return badUsage("name a folder for the copy, or --in-place")
			}
			if err := a.present(); err != nil {
				return err
			}
			out := a.dir
			if !inPlace {
				out = args[0]
			}
			r, err := interop.Export(c.Context(), a.dir, out)
			if err != nil {
				return err
			}
			return a.one(row{{"topics", r.Topics}, {"groups", r.Groups}, {"offsets", r.Offsets}, {"timers", r.Timers},
				{"delayed by level", r.Levels}, {"halves", r.Halves}, {"warnings", r.Warnings}, {"broker.conf", r.Broker}})
		},
	}
	c.Flags().BoolVar(&inPlace, "in-place", false, "make no copy")
	return c
}

func (a *app) importRocketMQ() *cobra.Command {
	return &cobra.Command{
		Use: "import-rocketmq", GroupID: "files", Args: cobra.NoArgs,
		Short: "Take a directory over from Apache RocketMQ, or back from it",
		Long: `Take a directory over from Apache RocketMQ. One that was exported in place comes back: what
RocketMQ has delivered, decided and committed replaces what was known here. No broker may
have the directory open.`,
		Example: `  embermq import-rocketmq`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.present(); err != nil {
				return err
			}
			im, err := interop.Import(c.Context(), a.dir)
			if err != nil {
				return err
			}
			return a.one(row{{"topics", im.Topics}, {"groups", im.Groups}, {"offsets", im.Offsets}, {"delayed messages", im.Pending},
				{"delayed messages left out", im.TimersLeftOut}, {"halves", im.Halves}, {"halves left out", im.HalvesLeftOut}, {"left out", im.LeftOut}})
		},
	}
}
