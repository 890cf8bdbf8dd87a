package measure

import (
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// bars draws one subject's figures. The chart of gonum/plot begins at zero, which
// a logarithmic axis does not have, and knows no whiskers beside bars.
type bars struct {
	min           float64 // where bars begin
	width, offset vg.Length
	fill          color.Color
	at            []bar
}

type bar struct {
	x float64
	r Result
}

// Plot draws the bars.
func (b *bars) Plot(c draw.Canvas, p *plot.Plot) {
	tx, ty := p.Transforms(&c)
	line := draw.LineStyle{Color: color.Black, Width: vg.Points(0.7)}
	for _, one := range b.at {
		x := tx(one.x) + b.offset
		low, high := Quartiles(one.r.Reps)
		bottom, top := ty(b.min), ty(max(one.r.Median, b.min))
		c.FillPolygon(b.fill, []vg.Point{{X: x - b.width/2, Y: bottom}, {X: x - b.width/2, Y: top}, {X: x + b.width/2, Y: top}, {X: x + b.width/2, Y: bottom}})
		if low >= b.min && high > low {
			c.StrokeLine2(line, x, ty(low), x, ty(high))
		}
	}
}

// DataRange makes room for all bars and whiskers.
func (b *bars) DataRange() (xmin, xmax, ymin, ymax float64) {
	if len(b.at) == 0 {
		return 0, 0, b.min, b.min
	}
	xmin, xmax, ymax = b.at[0].x, b.at[0].x, b.min
	for _, one := range b.at {
		_, high := Quartiles(one.r.Reps)
		xmin, xmax, ymax = min(xmin, one.x), max(xmax, one.x), max(ymax, high, one.r.Median)
	}
	return xmin, xmax, b.min, ymax
}

// Thumbnail is the subject's colour in the legend.
func (b *bars) Thumbnail(c *draw.Canvas) {
	c.FillPolygon(b.fill, []vg.Point{c.Min, {X: c.Min.X, Y: c.Max.Y}, c.Max, {X: c.Max.X, Y: c.Min.Y}})
}
