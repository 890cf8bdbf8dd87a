package measure

import (
	"fmt"
	"image/color"
	"math"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// WritePlots draws the results into a folder, a PNG and an SVG for each kind of
// work: the first part of the workloads' names and their unit. Bars are medians,
// whiskers quartiles.
func WritePlots(dir string, rs []Result) error {
	var names []string
	groups := make(map[string][]Result)
	for _, r := range rs {
		kind, _, _ := strings.Cut(r.Workload, "/")
		name := kind + "-" + strings.ReplaceAll(r.Unit, "/", "-per-")
		if groups[name] == nil {
			names = append(names, name)
		}
		groups[name] = append(groups[name], r)
	}
	for _, name := range names {
		if err := drawGroup(filepath.Join(dir, name), groups[name]); err != nil {
			return fmt.Errorf("measure: plot %s: %w", name, err)
		}
	}
	return nil
}

// drawGroup draws one picture: workloads from left to right, a colour for each
// subject.
func drawGroup(name string, rs []Result) error {
	p := plot.New()
	p.Title.Text = filepath.Base(name)
	p.Y.Label.Text = rs[0].Unit
	p.Y.Min = 0
	if spread(rs) > 100 {
		p.Y.Min = math.Pow(10, math.Floor(math.Log10(smallest(rs))))
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	workloads, subjects := parts(rs)
	width := vg.Points(12)
	for i, s := range subjects {
		offset := vg.Length(float64(i)-float64(len(subjects)-1)/2) * width
		b := &bars{min: p.Y.Min, width: width * 0.9, offset: offset, fill: palette(i)}
		for x, w := range workloads {
			for _, r := range rs {
				if r.Workload == w && r.Subject == s {
					b.at = append(b.at, bar{float64(x), r})
				}
			}
		}
		p.Add(b)
		p.Legend.Add(s, b)
	}
	p.Legend.Top = true
	p.X.Min, p.X.Max = -0.6, float64(len(workloads))-0.4
	labels := make([]string, len(workloads))
	for i, w := range workloads {
		_, labels[i], _ = strings.Cut(w, "/")
	}
	p.NominalX(labels...)
	p.X.Tick.Label.Rotation = -math.Pi / 5
	p.X.Tick.Label.XAlign = -0.1
	p.Add(plotter.NewGrid())
	w := max(18*vg.Centimeter, vg.Length(len(workloads)*(len(subjects)+1))*width+6*vg.Centimeter)
	for _, format := range []string{".png", ".svg"} {
		if err := p.Save(w, 12*vg.Centimeter, name+format); err != nil {
			return err
		}
	}
	return nil
}

func parts(rs []Result) (workloads, subjects []string) {
	seen := make(map[string]bool)
	for _, r := range rs {
		if !seen["w "+r.Workload] {
			workloads = append(workloads, r.Workload)
		}
		if !seen["s "+r.Subject] {
			subjects = append(subjects, r.Subject)
		}
		seen["w "+r.Workload], seen["s "+r.Subject] = true, true
	}
	return workloads, subjects
}

func smallest(rs []Result) float64 {
	low := math.Inf(1)
	for _, r := range rs {
		if r.Median > 0 {
			low = min(low, r.Median)
		}
	}
	return low
}

// spread is how many times the largest median is the smallest one.
func spread(rs []Result) float64 {
	high := 0.0
	for _, r := range rs {
		high = max(high, r.Median)
	}
	return high / smallest(rs)
}

// palette are colours that people with colour blindness can tell apart.
func palette(i int) color.Color {
	colours := []color.RGBA{
		{230, 97, 1, 255}, {94, 60, 153, 255}, {0, 114, 178, 255}, {0, 158, 115, 255}, {240, 228, 66, 255}, {86, 180, 233, 255},
		{204, 121, 167, 255}, {102, 102, 102, 255}, {166, 86, 40, 255}, {0, 0, 0, 255},
	}
	return colours[i%len(colours)]
}
