package logs

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// script plays entries through a gather. Each is "o:" or "e:" and its text; one
// byte of file each, so that positions are their numbers, counted from 1.
func script(g *gather, at time.Time, entries ...string) position {
	var end position
	for i, text := range entries {
		stream := Stdout
		if strings.HasPrefix(text, "e:") {
			stream = Stderr
		}
		start := position{inode: 1, offset: int64(i), total: int64(i)}
		end = position{inode: 1, offset: int64(i + 1), total: int64(i + 1)}
		g.add(Entry{Time: at, Stream: stream, Line: []byte(text[2:])}, start, end)
	}
	return end
}

// told prints what is ready: stream, text, part, and where the cursor may go.
func told(g *gather) string {
	var out []string
	for _, o := range g.ready {
		text := fmt.Sprintf("%c:%q", o.Stream[3], o.Line)
		if p := o.Partial; p != nil {
			text += fmt.Sprintf(" part %s.%d", p.ID, p.Ordinal)
			if p.Last {
				text += " last"
			}
		}
		out = append(out, fmt.Sprintf("%s >%d", text, o.after.total))
	}
	return strings.Join(out, ", ")
}

func TestGather(t *testing.T) {
	starts := func(line []byte) bool { return strings.HasPrefix(string(line), "[") }
	for _, tc := range []struct {
		name    string
		batch   Batch
		entries []string
		ready   string
		ended   string // what the end of the container adds
	}{
		{
			"parts as they are",
			Batch{},
			[]string{"o:a\n", "o:b", "e:c\n", "o:b", "o:\n", "o:d\n"},
			`o:"a\n" >1, o:"b" part 1-1.1 >2, e:"c\n" >3, o:"b" part 1-1.2 >4, o:"\n" part 1-1.3 last >5, o:"d\n" >6`, "",
		},
		{
			"parts joined",
			Batch{MaxLine: 100},
			[]string{"o:a\n", "o:b", "e:c\n", "o:b\n"},
			`o:"a\n" >1, e:"c\n" >1, o:"bb\n" >4`, "",
		},
		{
			"never ended",
			Batch{MaxLine: 100},
			[]string{"o:a", "e:b\n", "e:c"},
			`e:"b\n" >0`, `, o:"a" >2, e:"c" >3`,
		},
		{
			"too long even so",
			Batch{MaxLine: 4},
			[]string{"o:abcdefghi", "o:jk\n", "o:lmno\n", "o:pqrst\n"},
			`o:"abcd" >0, o:"efgh" >0, o:"ijk\n" >2, o:"lmno\n" >3, o:"pqrs" >3, o:"t\n" >4`, "",
		},
		{
			"events of lines",
			Batch{MaxLine: 100, Begins: starts},
			[]string{"o:[1\n", "o: x\n", "e:[2\n", "o: y\n", "o:[3\n", "e:z\n"},
			`o:"[1\n x\n y\n" >2`, `, o:"[3\n" >2, e:"[2\nz\n" >6`,
		},
		{
			"an event too long",
			Batch{MaxLine: 8, Begins: starts},
			[]string{"o:[1\n", "o:xxxx\n", "o:y\n"},
			`o:"[1\nxxxx\n" >2`, `, o:"y\n" >3`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			now := time.Now()
			g := &gather{batch: tc.batch.withDefaults()}
			end := script(g, now, tc.entries...)
			if got := told(g); got != tc.ready {
				t.Errorf("ready: %s\n want: %s", got, tc.ready)
			}
			g.release(now, true, end)
			if got := told(g); got != tc.ready+tc.ended {
				t.Errorf("at the end: %s\n want: %s", got, tc.ready+tc.ended)
			}
			if g.held() {
				t.Error("something is held back for ever")
			}
		})
	}
}

// What is held back is let go when it is old enough, and not before.
func TestGatherLetsGo(t *testing.T) {
	now := time.Now()
	g := &gather{batch: Batch{Linger: 2 * time.Second, Begins: func(l []byte) bool { return l[0] == '[' }}.withDefaults()}
	end := script(g, now, "o:[1\n", "e:never ended")
	for _, step := range []struct {
		after time.Duration
		want  string
		due   time.Duration
	}{
		{time.Second, "", time.Second},
		{2 * time.Second, `o:"[1\n" >1`, 0},
		{5 * time.Second, `o:"[1\n" >1, e:"never ended" >2`, 0},
	} {
		g.release(now.Add(step.after), false, end)
		if got := told(g); got != step.want {
			t.Errorf("after %v: %s, want %s", step.after, got, step.want)
		}
		if step.due > 0 && g.due(now.Add(step.after)) != step.due {
			t.Errorf("after %v it is due in %v", step.after, g.due(now.Add(step.after)))
		}
	}
	g.taken(2)
	if g.waiting() || g.size != 0 {
		t.Errorf("%d bytes are left", g.size)
	}
}
