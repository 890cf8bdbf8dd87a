package measure

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// WriteTable prints results for people: medians, quartiles, ratios.
func WriteTable(w io.Writer, rs []Result) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "workload\tsubject\tmedian\tquartiles\tunit\tratio\tto")
	last := ""
	for _, r := range rs {
		name := r.Workload
		if name == last {
			name = ""
		}
		last = r.Workload
		fmt.Fprintf(tw, "%s\t%s\n", name, strings.Join(cells(rs, r), "\t"))
	}
	return tw.Flush()
}

// WriteMarkdown prints the same table for a document.
func WriteMarkdown(w io.Writer, rs []Result) error {
	var b strings.Builder
	b.WriteString("| workload | subject | median | quartiles | unit | ratio | to |\n|---|---|---|---|---|---|---|\n")
	for _, r := range rs {
		fmt.Fprintf(&b, "| %s | %s |\n", r.Workload, strings.Join(cells(rs, r), " | "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func cells(rs []Result, r Result) []string {
	low, high := Quartiles(r.Reps)
	ratio := ""
	if q := Ratios(rs, r); len(q) > 0 {
		ratio = Format(r.Ratio)
	}
	return []string{r.Subject, Format(r.Median), Format(low) + ".." + Format(high), r.Unit, ratio, r.RatioTo}
}

// Format writes a figure with three digits, thousands as k or M.
func Format(v float64) string {
	abs := math.Abs(v)
	switch {
	case math.IsNaN(v):
		return "-"
	case abs >= 999.5e3:
		return trim(v/1e6) + " M"
	case abs >= 9995:
		return trim(v/1e3) + " k"
	}
	return trim(v)
}

func trim(v float64) string {
	abs := math.Abs(v)
	switch {
	case abs >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case abs >= 9.995:
		return fmt.Sprintf("%.1f", v)
	case abs >= 0.0995 || v == 0:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.2g", v)
}
