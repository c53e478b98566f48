// Package plots draws the figures that are understood at a glance: what requests go through while a server is replaced, and
// how a handoff's cost grows. Each is drawn twice, for light and for dark pages.
package plots

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"holdfast/e2e/bench/handoffs"
	"holdfast/e2e/bench/phases"
)

// theme is the colours for one kind of page; there is no background.
type theme struct {
	name               string
	ink, faint         color.Color
	ours, theirs, lost color.Color
	lines              []color.Color
}

func themes() []theme {
	return []theme{
		{
			name: "light", ink: gray(0x24), faint: gray(0xdd), ours: rgb(0x1a, 0x7f, 0x37), theirs: rgb(0x57, 0x60, 0x6a), lost: rgb(0xcf, 0x22, 0x2e),
			lines: []color.Color{rgb(0x1a, 0x7f, 0x37), rgb(0x09, 0x69, 0xda), rgb(0xbc, 0x4c, 0x00), rgb(0x82, 0x50, 0xdf)},
		},
		{
			name: "dark", ink: gray(0xe6), faint: gray(0x3a), ours: rgb(0x3f, 0xb9, 0x50), theirs: rgb(0x8b, 0x94, 0x9e), lost: rgb(0xf8, 0x51, 0x49),
			lines: []color.Color{rgb(0x3f, 0xb9, 0x50), rgb(0x58, 0xa6, 0xff), rgb(0xf0, 0x88, 0x3e), rgb(0xa3, 0x71, 0xf7)},
		},
	}
}

func gray(v uint8) color.Color      { return color.RGBA{v, v, v, 0xff} }
func rgb(r, g, b uint8) color.Color { return color.RGBA{r, g, b, 0xff} }

// Latency draws, one below the other, what requests went through around the trigger of a handoff.
func Latency(dir string, cells []handoffs.Cell) error {
	if len(cells) == 0 {
		return nil
	}
	for _, t := range themes() {
		var rows [][]*plot.Plot
		for i, c := range cells {
			p := t.panel(c)
			if i == len(cells)-1 {
				p.X.Label.Text = "milliseconds from the trigger"
			}
			rows = append(rows, []*plot.Plot{p})
		}
		if err := t.save(filepath.Join(dir, "bench-latency"), rows, 17*vg.Centimeter, vg.Length(len(rows))*2.6*vg.Centimeter); err != nil {
			return err
		}
	}
	return nil
}

// The axis of latencies, in milliseconds.
const (
	lowest  = 0.5
	highest = 6000
)

func (t theme) panel(c handoffs.Cell) *plot.Plot {
	p := t.plot()
	p.Title.Text = fmt.Sprintf("%s: %s of %s requests lost in %d", c.Peer, thousands(c.Lost()), thousands(c.Requests), c.Handoffs)
	if c.Holdfast {
		p.Title.Text += " handoffs"
	} else {
		p.Title.Text += " restarts"
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = c.Series[0].At, c.Series[len(c.Series)-1].At, lowest, highest
	p.Y.Scale = plot.LogScale{}
	p.Y.Tick.Marker = ticks{1: "1 ms ", 10: "10 ms ", 100: "100 ms ", 1000: "1 s "}
	p.X.Tick.Marker = ticks{-200: "−200", 0: "0", 200: "200", 400: "400", 600: "600", 800: "800", 1000: "1,000", 1200: "1,200", 1400: "1,400"}
	ink := t.theirs
	if c.Holdfast {
		ink = t.ours
	}
	width := c.Series[1].At - c.Series[0].At
	for _, b := range c.Series {
		if b.Lost > 0 {
			p.Add(t.bar(b.At, width, highest, t.lost))
		}
		if b.P99 > 0 {
			p.Add(t.bar(b.At, width, min(max(b.P99, lowest*1.1), highest), ink))
		}
	}
	p.Add(t.mark(0))
	return p
}

// bar is a column from the axis to y.
func (t theme) bar(x, width, y float64, c color.Color) plot.Plotter {
	b, err := plotter.NewPolygon(plotter.XYs{{X: x, Y: lowest}, {X: x, Y: y}, {X: x + width*.92, Y: y}, {X: x + width*.92, Y: lowest}})
	if err != nil {
		panic(err) // four points are a polygon
	}
	b.Color, b.LineStyle.Width = c, 0
	return b
}

// mark is where the trigger is.
func (t theme) mark(x float64) plot.Plotter {
	l, err := plotter.NewLine(plotter.XYs{{X: x, Y: lowest}, {X: x, Y: highest}})
	if err != nil {
		panic(err)
	}
	l.Color, l.Width, l.Dashes = t.ink, vg.Points(.7), []vg.Length{vg.Points(3), vg.Points(2)}
	return l
}

// Growth draws holdfast's own share of a handoff over the size of what grows.
func Growth(dir string, growths []phases.Growth) error {
	if len(growths) == 0 {
		return nil
	}
	for _, t := range themes() {
		p := t.plot()
		p.Title.Text = "holdfast's own share of a handoff"
		p.X.Label.Text, p.Y.Label.Text = "how many there are", "milliseconds (median)"
		p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
		p.X.Tick.Marker = ticks{1: "0 or 1", 10: "10", 100: "100", 1000: "1,000", 10_000: "10,000", 50_000: "50,000"}
		p.Y.Tick.Marker = ticks{1: "1", 10: "10", 100: "100", 1000: "1,000", 10_000: "10,000"}
		var names []string
		for _, g := range growths {
			if !slices.Contains(names, g.What) {
				names = append(names, g.What)
			}
		}
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = .8, 70_000, 1, 10
		for i, name := range names {
			var points plotter.XYs
			for _, g := range growths {
				if g.What == name && g.Own.N > 0 {
					points = append(points, plotter.XY{X: math.Max(1, float64(g.N)), Y: math.Max(.1, g.Own.Median)})
				}
			}
			if len(points) == 0 {
				continue
			}
			line, dots, err := plotter.NewLinePoints(points)
			if err != nil {
				return err
			}
			line.Color, line.Width = t.lines[i%len(t.lines)], vg.Points(1.6)
			dots.Color, dots.Shape, dots.Radius = line.Color, draw.CircleGlyph{}, vg.Points(2.6)
			p.Add(line, dots)
			p.Legend.Add(name, line, dots)
			for _, point := range points {
				p.Y.Max = math.Max(p.Y.Max, point.Y*1.6)
			}
		}
		p.Legend.Top, p.Legend.Left, p.Legend.Padding = true, true, vg.Points(3)
		if err := t.save(filepath.Join(dir, "bench-growth"), [][]*plot.Plot{{p}}, 17*vg.Centimeter, 9*vg.Centimeter); err != nil {
			return err
		}
	}
	return nil
}

// plot is an empty one in the theme's colours.
func (t theme) plot() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	sans := func(s *text.Style, size vg.Length) {
		s.Color, s.Font = t.ink, font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
	}
	sans(&p.Title.TextStyle, vg.Points(9.5))
	p.Title.Padding = vg.Points(3)
	sans(&p.Legend.TextStyle, vg.Points(9))
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		sans(&a.Label.TextStyle, vg.Points(9))
		sans(&a.Tick.Label, vg.Points(8))
		a.Color, a.Tick.Color = t.ink, t.ink
		a.Padding = 0
	}
	p.Y.Tick.Label.XAlign, p.Y.Tick.Label.YAlign = draw.XRight, draw.YCenter
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = draw.XCenter, draw.YTop
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = t.faint, t.faint
	p.Add(grid)
	return p
}

// ticks are at these values, with these words.
type ticks map[float64]string

// Ticks returns those that are in reach.
func (t ticks) Ticks(low, high float64) (all []plot.Tick) {
	for at, label := range t {
		if at >= low && at <= high {
			all = append(all, plot.Tick{Value: at, Label: label})
		}
	}
	slices.SortFunc(all, func(a, b plot.Tick) int { return int(math.Copysign(1, a.Value-b.Value)) })
	return all
}

func (t theme) save(name string, rows [][]*plot.Plot, width, height vg.Length) error {
	canvas := vgsvg.New(width, height)
	tiles := draw.Tiles{Rows: len(rows), Cols: 1, PadY: vg.Points(4), PadRight: vg.Points(6), PadLeft: vg.Points(2), PadTop: vg.Points(2), PadBottom: vg.Points(2)}
	for i, row := range plot.Align(rows, tiles, draw.New(canvas)) {
		rows[i][0].Draw(row[0])
	}
	f, err := os.Create(name + "-" + t.name + ".svg")
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := canvas.WriteTo(f); err != nil {
		return fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return nil
}

// thousands separates them.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
