package main

import (
	"fmt"
	"html"
	"slices"
	"strings"
)

// Measures of the drawings in pixels, and their colours.
const (
	width      = 1120
	margin     = 24
	boxHeight  = 26
	boxGap     = 14
	rowGap     = 34
	charWidth  = 7.3 // of 12 pixel monospace
	background = "#fbfaf7"
	ink        = "#1b1f24"
	faint      = "#5a6570"
)

var colours = []string{"#d9e8f6", "#fde7c7", "#d5efe2", "#f6dbe4", "#e6e0f3", "#e5e5e0"}

// box is a room's place in the drawing.
type box struct {
	room       int
	x, y, wide float64
}

func (b box) middle() float64 { return b.x + b.wide/2 }

// drawing shows the rooms that programs are made of, a band for each part of the table, and what imports what: arrows
// that follow from others are left out.
func (d *document) drawing() string {
	var groups []string
	members := map[string][]int{}
	for i, r := range d.rooms {
		if strings.HasPrefix(r.folder, "tools/") || strings.HasSuffix(r.folder, "test") {
			continue
		}
		if members[r.group] == nil {
			groups = append(groups, r.group)
		}
		members[r.group] = append(members[r.group], i)
	}
	var bands, lines, boxes strings.Builder
	places := map[int]box{}
	y := float64(margin)
	for g, title := range groups {
		top := y
		y += 24
		for _, row := range rowsOf(d, members[title]) {
			y = place(d, places, row, y)
		}
		fmt.Fprintf(&bands, `<rect x="%d" y="%.0f" width="%d" height="%.0f" rx="8" fill="%s"/>`+"\n", margin, top, width-2*margin, y-top, colours[g%len(colours)])
		fmt.Fprintf(&bands, `<text x="%d" y="%.0f" font-weight="bold">%s</text>`+"\n", margin+10, top+17, html.EscapeString(title))
		y += boxGap
	}
	for i := range d.rooms { // in the table's order, so that the file is always the same
		from, ok := places[i]
		if !ok {
			continue
		}
		for _, j := range d.reduced(i) {
			to, ok := places[j]
			if !ok {
				continue
			}
			x0, y0, x1, y1 := from.middle(), from.y+boxHeight, to.middle(), to.y-3
			bend := max(20, (y1-y0)/2)
			fmt.Fprintf(&lines, `<path d="M%.0f %.0fC%.0f %.0f %.0f %.0f %.0f %.0f"/>`+"\n", x0, y0, x0, y0+bend, x1, y1-bend, x1, y1)
		}
		fmt.Fprintf(&boxes, `<rect x="%.0f" y="%.0f" width="%.0f" height="%d" rx="4"/><text x="%.0f" y="%.0f" text-anchor="middle">%s</text>`+"\n",
			from.x, from.y, from.wide, boxHeight, from.middle(), from.y+17, name(d.rooms[i].folder))
	}
	return svg(y+margin-boxGap, "The rooms and what they import", bands.String()+
		`<g fill="none" stroke="#8794a0" stroke-width="1" marker-end="url(#tip)">`+"\n"+lines.String()+"</g>\n"+
		`<g font-family="monospace" font-size="12"><g fill="white" stroke="#8794a0">`+"\n"+
		strings.ReplaceAll(boxes.String(), "<text ", `<text fill="`+ink+`" stroke="none" `)+"</g></g>\n")
}

// rowsOf divides rooms into rows: each stands below all that import it.
func rowsOf(d *document, members []int) [][]int {
	depth := map[int]int{}
	var rows [][]int
	for _, i := range members {
		for _, j := range members {
			if slices.Contains(d.rooms[j].uses, d.rooms[i].folder) {
				depth[i] = max(depth[i], depth[j]+1)
			}
		}
		for len(rows) <= depth[i] {
			rows = append(rows, nil)
		}
		rows[depth[i]] = append(rows[depth[i]], i)
	}
	return rows
}

// place puts rooms side by side from y down, in several lines if they need them, and gives where the next row starts.
func place(d *document, places map[int]box, row []int, y float64) float64 {
	for len(row) > 0 {
		total, n := -float64(boxGap), 0
		for _, i := range row {
			wide := boxWidth(d.rooms[i])
			if n > 0 && total+boxGap+wide > width-4*margin {
				break
			}
			total += boxGap + wide
			n++
		}
		spare := (width - 4*margin - total) / float64(n+1)
		x := 2*margin + spare
		for _, i := range row[:n] {
			wide := boxWidth(d.rooms[i])
			places[i] = box{i, x, y, wide}
			x += wide + boxGap + spare
		}
		row = row[n:]
		y += boxHeight + rowGap
	}
	return y - rowGap + 26
}

func boxWidth(r room) float64 { return float64(len(name(r.folder)))*charWidth + 18 }

// svg frames a drawing of the common width.
func svg(height float64, title, body string) string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %.0f" font-family="sans-serif" font-size="13" fill="%s">
<title>%s</title>
<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#8794a0"/></marker></defs>
<rect width="100%%" height="100%%" fill="%s"/>
%s</svg>
`, width, height, ink, title, background, body)
}

// step is what happens to a picture, and where.
type step struct {
	title, what string
	packages    []string
}

// steps are the path of a picture through the pipeline.
var steps = []step{
	{"decode", "a file becomes pixels of 8 or 16 bits; metadata is kept aside", []string{"runtime/imaging"}},
	{"estimate", "a vision transformer reads the degradation from a small view", []string{"runtime/router", "graph/models"}},
	{"route", "degradation × granularity name one expert; only this decision crosses to the host", []string{"runtime/router", "graph"}},
	{"dispatch", "the expert is found compiled, switched to, or compiled; others leave if memory asks", []string{"runtime/experts", "weights"}},
	{"tile", "a picture that does not fit is cut where the network's grid allows", []string{"runtime/restore"}},
	{"run", "the expert's graph on the CPU, or as kernel launches on a device", []string{"runtime/cpu", "runtime/gpu", "kernels"}},
	{"blend", "tiles flow together; rows leave as soon as they are final", []string{"runtime/restore"}},
	{"encode", "depth, alpha and metadata return; the file appears when it is complete", []string{"runtime/imaging", "weights/atomicfile"}},
}

// pathDrawing shows the steps one below the other.
func pathDrawing() string {
	const pitch, left, wide = 58, 2 * margin, 130
	var body strings.Builder
	for i, s := range steps {
		y := margin + i*pitch
		fmt.Fprintf(&body, `<rect x="%d" y="%d" width="%d" height="34" rx="6" fill="%s" stroke="#8794a0"/><text x="%d" y="%d" text-anchor="middle" font-weight="bold">%s</text>`+"\n",
			left, y, wide, colours[i%2], left+wide/2, y+22, s.title)
		fmt.Fprintf(&body, `<text x="%d" y="%d">%s</text><text x="%d" y="%d" font-family="monospace" font-size="12" fill="%s">%s</text>`+"\n",
			left+wide+24, y+14, html.EscapeString(s.what), left+wide+24, y+32, faint, strings.Join(s.packages, "  "))
		if i > 0 {
			fmt.Fprintf(&body, `<path d="M%d %dv%d" stroke="#8794a0" marker-end="url(#tip)"/>`+"\n", left+wide/2, y-pitch+34, pitch-34-4)
		}
	}
	return svg(float64(margin+len(steps)*pitch), "The path of a picture", body.String())
}
