package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// goal is what a figure should be, of what the design says in §7. A zero member
// says nothing.
type goal struct {
	most, least           float64 // In the figure's unit.
	mostOfBare, leastBare float64 // In times the bare client's.
}

// String says the goal as a person would.
func (g goal) String() string {
	var parts []string
	add := func(format string, v float64) {
		if v != 0 {
			parts = append(parts, fmt.Sprintf(format, v))
		}
	}
	add("≤ %g", g.most)
	add("≥ %g", g.least)
	add("≤ %g × bare", g.mostOfBare)
	add("≥ %g × bare", g.leastBare)
	return strings.Join(parts, " or ")
}

// met says whether one of the goal's members is.
func (g goal) met(f *figure) bool {
	return g.most != 0 && f.Berth <= g.most || g.least != 0 && f.Berth >= g.least ||
		f.Bare != 0 && (g.mostOfBare != 0 && f.ratio() <= g.mostOfBare || g.leastBare != 0 && f.ratio() >= g.leastBare)
}

// figure is a line of the result.
type figure struct {
	Name  string  `json:"figure"`
	Unit  string  `json:"unit"`
	Berth float64 `json:"berth"`
	Bare  float64 `json:"bare,omitempty"`
	goal  goal
}

func (f *figure) ratio() float64 {
	if f.Bare == 0 {
		return 0
	}
	return f.Berth / f.Bare
}

func (f *figure) verdict() string {
	switch {
	case f.goal == goal{}:
		return ""
	case f.goal.met(f):
		return "ok"
	default:
		return "over"
	}
}

// MarshalJSON adds what follows from the rest.
func (f figure) MarshalJSON() ([]byte, error) {
	type plain figure
	return json.Marshal(struct {
		plain

		Ratio   float64 `json:"ratio,omitempty"`
		Goal    string  `json:"goal,omitempty"`
		Verdict string  `json:"verdict,omitempty"`
	}{plain(f), f.ratio(), f.goal.String(), f.verdict()})
}

// result is a whole run.
type result struct {
	At      time.Time `json:"at"`
	Load    string    `json:"load"` // The machine's load averages before the run.
	Figures []figure  `json:"figures"`
}

func (r *result) add(name, unit string, berth, bare float64, g goal) {
	r.Figures = append(r.Figures, figure{name, unit, berth, bare, g})
}

// write prints the result as a table, or as JSON.
func (r *result) write(w io.Writer, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) // It keeps what fails until Flush.
	_, _ = fmt.Fprintln(t, "FIGURE\tBERTH\tBARE\tRATIO\tGOAL\t")
	for i := range r.Figures {
		f := &r.Figures[i]
		bare, ratio := "", ""
		if f.Bare != 0 {
			bare, ratio = number(f.Bare, f.Unit), fmt.Sprintf("%.2f", f.ratio())
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", f.Name, number(f.Berth, f.Unit), bare, ratio, f.goal, f.verdict())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nload before the run: %s\n", r.Load)
	return err
}

// number is a value with three digits that count.
func number(v float64, unit string) string {
	digits := 0
	for limit := 100.0; v < limit && digits < 3; limit /= 10 {
		digits++
	}
	return fmt.Sprintf("%.*f %s", digits, v, unit)
}
