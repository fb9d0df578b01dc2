package logs

import (
	"bytes"
	"strconv"
	"time"
)

// holdParts is how long the end of a long line is waited for once nothing else
// comes.
const holdParts = 5 * time.Second

// gather makes of queued entries those that a remote driver wants: parts of long
// lines joined or numbered, lines joined as Batch.Begins says. One goroutine
// uses it.
type gather struct {
	batch Batch
	// ready are whole, oldest first; size is that of their lines in bytes, and
	// begun when the first of them came.
	ready []offer
	size  int
	begun time.Time

	streams [2]gathering
}

// offer is an entry, and where the cursor goes when the far end has it and all
// before it: not behind anything that is still held back.
type offer struct {
	Entry

	after position
}

// gathering is what is held back of a stream.
type gathering struct {
	line, event pile
	// part numbers the parts of the line under way.
	part Partial
}

// pile is text that may go on.
type pile struct {
	Entry

	start position
	last  time.Time // when the newest of it was read
}

// empty says that nothing is held back.
func (p *pile) empty() bool { return p.Line == nil }

// add appends an entry that was at start.
func (p *pile) add(e Entry, start position) {
	if p.empty() {
		*p = pile{Entry: Entry{Time: e.Time, Stream: e.Stream, Line: e.Line}, start: start, last: e.Time}
		return
	}
	p.Line = append(p.Line, e.Line...)
	p.last = e.Time
}

// full says that no more may be offered at once.
func (g *gather) full() bool { return len(g.ready) >= g.batch.Lines || g.size >= g.batch.Bytes }

// waiting says that something is held back or ready.
func (g *gather) waiting() bool { return len(g.ready) > 0 || g.held() }

// held says that something is held back.
func (g *gather) held() bool {
	for i := range g.streams {
		if !g.streams[i].line.empty() || !g.streams[i].event.empty() {
			return true
		}
	}
	return false
}

// add takes in the entry that lay between start and end. Its line is gather's
// from now on.
func (g *gather) add(e Entry, start, end position) {
	s := &g.streams[0]
	if e.Stream == Stderr {
		s = &g.streams[1]
	}
	whole := bytes.HasSuffix(e.Line, []byte{'\n'})
	if g.batch.MaxLine == 0 {
		e.Partial = s.number(whole, start)
		g.emit(e, end)
		return
	}
	for len(s.line.Line)+len(e.Text()) > g.batch.MaxLine {
		room := g.batch.MaxLine - len(s.line.Line)
		s.line.add(Entry{Time: e.Time, Stream: e.Stream, Line: e.Line[:room:room]}, start)
		e.Line = e.Line[room:]
		g.endLine(s, start) // the rest of the entry is still to come
	}
	if len(e.Line) > 0 {
		s.line.add(e, start)
	}
	if whole {
		g.endLine(s, end)
	}
}

// number is the Partial of the stream's next entry.
func (s *gathering) number(whole bool, start position) *Partial {
	if whole && s.part.Ordinal == 0 {
		return nil
	}
	if s.part.Ordinal == 0 {
		s.part.ID = strconv.FormatUint(start.inode, 16) + "-" + strconv.FormatInt(start.offset, 16)
	}
	s.part.Ordinal++
	p := s.part
	if p.Last = whole; whole {
		s.part = Partial{}
	}
	return &p
}

// endLine takes the line of a stream as it is.
func (g *gather) endLine(s *gathering, end position) {
	line := s.line
	s.line = pile{}
	if line.empty() {
		return
	}
	if g.batch.Begins == nil {
		g.emit(line.Entry, end)
		return
	}
	begins := g.batch.Begins(line.Text())
	if !s.event.empty() && (begins || len(s.event.Line)+len(line.Line) > g.batch.MaxLine) {
		event := s.event
		// The line is held back from here on, so the cursor stays before it.
		s.event = line
		g.emit(event.Entry, end)
		return
	}
	s.event.add(line.Entry, line.start)
}

// emit makes an entry ready. The cursor may go to end, or to where the oldest
// that is held back begins.
func (g *gather) emit(e Entry, end position) {
	after := end
	for i := range g.streams {
		for _, p := range []*pile{&g.streams[i].line, &g.streams[i].event} {
			if !p.empty() && p.start.total < after.total {
				after = p.start
			}
		}
	}
	if len(g.ready) == 0 {
		g.begun = time.Now()
	}
	g.ready = append(g.ready, offer{e, after})
	g.size += len(e.Line)
}

// release makes ready what is held back, if it is old enough or the container
// has ended. There is nothing more to read before end.
func (g *gather) release(now time.Time, ended bool, end position) {
	for i := range g.streams {
		s := &g.streams[i]
		if !s.line.empty() && (ended || now.Sub(s.line.last) >= holdParts) {
			g.endLine(s, end)
		}
		if !s.event.empty() && (ended || now.Sub(s.event.Time) >= g.batch.Linger) && s.line.empty() {
			event := s.event
			s.event = pile{}
			g.emit(event.Entry, end)
		}
	}
}

// due is how long from now release, or a batch that lingers, is to be looked at
// again; zero is not at all.
func (g *gather) due(now time.Time) time.Duration {
	var at time.Time
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if len(g.ready) > 0 {
		sooner(g.begun.Add(g.batch.Linger))
	}
	for i := range g.streams {
		if s := &g.streams[i]; !s.line.empty() {
			sooner(s.line.last.Add(holdParts))
		} else if !s.event.empty() {
			sooner(s.event.Time.Add(g.batch.Linger))
		}
	}
	if at.IsZero() {
		return 0
	}
	return max(at.Sub(now), time.Millisecond)
}

// taken drops the first n that are ready.
func (g *gather) taken(n int) {
	for _, o := range g.ready[:n] {
		g.size -= len(o.Line)
	}
	clear(g.ready[:n])
	if g.ready = g.ready[n:]; len(g.ready) == 0 {
		g.ready = nil
	}
}
