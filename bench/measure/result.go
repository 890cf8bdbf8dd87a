package measure

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
)

// Result is one line of results.json.
type Result struct {
	Workload string `json:"workload"`
	Subject  string `json:"subject"`
	// Median is that of Reps, in Unit.
	Median float64 `json:"median"`
	Unit   string  `json:"unit"`
	// Reps are the figures of the rounds, in their order.
	Reps []float64 `json:"reps"`
	// RatioTo is the subject of the same workload that Ratio is taken to; empty
	// for none, and then Ratio is 0.
	RatioTo string `json:"ratio_to"`
	// Ratio is the median of the ratios of the rounds: this subject's figure
	// divided by the other's.
	Ratio float64 `json:"ratio"`
}

// HigherIsBetter says what a unit means: rates should be high, all else low.
func HigherIsBetter(unit string) bool { return strings.HasSuffix(unit, "/s") }

// Ratios are the ratios of single rounds, nil without a subject to compare to.
func Ratios(rs []Result, r Result) []float64 {
	for _, o := range rs {
		if r.RatioTo == "" || o.Workload != r.Workload || o.Subject != r.RatioTo {
			continue
		}
		var q []float64
		for i := range min(len(r.Reps), len(o.Reps)) {
			if o.Reps[i] != 0 {
				q = append(q, r.Reps[i]/o.Reps[i])
			}
		}
		return q
	}
	return nil
}

// finish fills in what follows from the figures of the rounds.
func finish(rs []Result) []Result {
	for i := range rs {
		rs[i].Median = round(Median(rs[i].Reps))
		if q := Ratios(rs, rs[i]); len(q) > 0 {
			rs[i].Ratio = round(Median(q))
		}
	}
	return rs
}

// round keeps four digits: more would only pretend.
func round(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// Save writes results.json: an array, one result a line.
func Save(name string, rs []Result) error {
	var b strings.Builder
	b.WriteString("[\n")
	for i, r := range rs {
		if r.Reps == nil {
			r.Reps = []float64{}
		}
		line, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("measure: %s of %s: %w", r.Workload, r.Subject, err)
		}
		b.Write(line)
		if i < len(rs)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString("]\n")
	return os.WriteFile(name, []byte(b.String()), 0o644)
}

// Load reads what Save wrote.
func Load(name string) ([]Result, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var rs []Result
	if err := json.Unmarshal(b, &rs); err != nil {
		return nil, fmt.Errorf("measure: %s: %w", name, err)
	}
	return rs, nil
}
