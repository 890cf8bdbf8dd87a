package measure

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// significant is how probable chance may be at most for a change to count: three
// rounds that are all below three others are just that.
const significant = 0.05

// Change is how one subject's figures differ from those of an earlier run.
type Change struct {
	Workload, Subject string
	Unit              string // of Old and New; "ratio" for ratios
	Old, New          float64
	// Loss is how much worse the new one is as a share of the old one, negative
	// when it is better.
	Loss float64
	// P is the probability that such a loss comes by chance.
	P float64
}

// Lost reports a significant loss of more than most.
func (c Change) Lost(most float64) bool { return c.P <= significant && c.Loss > most }

// Compare matches the results of two runs. With ratios it compares those, which
// mean something on another machine too, and leaves out what has none.
func Compare(old, now []Result, ratios bool) []Change {
	var cs []Change
	for _, n := range now {
		for _, o := range old {
			if o.Workload == n.Workload && o.Subject == n.Subject && o.Unit == n.Unit && o.RatioTo == n.RatioTo {
				was, is, unit := o.Reps, n.Reps, n.Unit
				if ratios {
					was, is, unit = Ratios(old, o), Ratios(now, n), "ratio"
				}
				if len(was) > 0 && len(is) > 0 {
					cs = append(cs, change(n, unit, was, is))
				}
			}
		}
	}
	return cs
}

func change(r Result, unit string, was, is []float64) Change {
	c := Change{Workload: r.Workload, Subject: r.Subject, Unit: unit, Old: Median(was), New: Median(is)}
	if HigherIsBetter(r.Unit) {
		c.P = Lower(is, was)
		c.Loss = 1 - c.New/c.Old
	} else {
		c.P = Lower(was, is)
		c.Loss = c.New/c.Old - 1
	}
	return c
}

// WriteChanges prints a table of changes and marks losses of more than most. It
// returns how many of these there are.
func WriteChanges(w io.Writer, cs []Change, most float64) (lost int, err error) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "workload\tsubject\told\tnew\tunit\tchange\tp\t")
	for _, c := range cs {
		verdict := "~"
		if c.P <= significant || 1-c.P <= significant {
			verdict = fmt.Sprintf("%+.0f %% worse", 100*c.Loss)
			if c.Loss <= 0 {
				verdict = fmt.Sprintf("%.0f %% better", -100*c.Loss)
			}
		}
		mark := ""
		if c.Lost(most) {
			mark = "LOST"
			lost++
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%.3f\t%s\n", c.Workload, c.Subject, Format(c.Old), Format(c.New), c.Unit, verdict, c.P, mark)
	}
	return lost, tw.Flush()
}
