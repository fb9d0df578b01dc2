package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/hostapi"
)

// errCannotPrint says that nobody reads what is printed.
var errCannotPrint = errors.New("cannot print")

// ignorePipe makes a reader that goes away an error of the write, where Go would end the program in the middle of things. The answer
// undoes it.
func (a *app) ignorePipe() (undo func()) {
	pipe := make(chan os.Signal, 1) // Nobody reads it: that there is one is enough.
	signal.Notify(pipe, unix.SIGPIPE)
	return func() { signal.Stop(pipe) }
}

// runPrinter prints a run: what containers write to stdout and stderr, all else to stderr, or with --json an event a line to stdout.
// Its methods may be called from any goroutine.
type runPrinter struct {
	app    *app
	broken context.CancelCauseFunc // called when nobody reads any more

	mu     sync.Mutex // keeps lines whole; guards what follows
	bars   *pullBars
	many   bool            // several containers: lines begin with their names
	colour map[string]int  // by container's name
	images map[string]bool // that the task uses; true once they are here
}

func newRunPrinter(a *app, broken context.CancelCauseFunc) *runPrinter {
	p := &runPrinter{app: a, broken: broken, colour: map[string]int{}, images: map[string]bool{}}
	if f, ok := terminal(a.Err); ok && !a.json {
		p.bars = newPullBars(f)
	}
	return p
}

// runEvent is a line of --json.
type runEvent struct {
	Event     string                 `json:"event"` // note, pull, container, ports, log or result
	Time      time.Time              `json:"time"`
	Message   string                 `json:"message,omitempty"`
	Pull      *hostapi.PullView      `json:"pull,omitempty"`
	Container *hostapi.ContainerView `json:"container,omitempty"`
	Line      *runLine               `json:"line,omitempty"`
	Task      *hostapi.TaskView      `json:"task,omitempty"`
	ExitCode  *int                   `json:"exitCode,omitempty"`
}

// runLine is a line that a container wrote.
type runLine struct {
	Container string `json:"container"`
	hostapi.LogLine
}

// emit prints an event with --json, and says whether it did. The caller holds the lock.
func (p *runPrinter) emit(e runEvent) bool {
	if !p.app.json {
		return false
	}
	e.Time = p.app.now()
	if err := p.app.encode(e, ""); err != nil {
		p.broken(errCannotPrint)
	}
	return true
}

// write prints text, above the bars if there are any on the same terminal. The caller holds the lock.
func (p *runPrinter) write(w io.Writer, text string) error {
	if _, ok := terminal(w); ok && p.bars != nil {
		w = p.bars.writer(w)
	}
	if _, err := io.WriteString(w, text); err != nil {
		p.broken(errCannotPrint)
		return fmt.Errorf("%w: %w", errCannotPrint, err)
	}
	return nil
}

// say prints a line about the run. If nobody reads it, the one who started the run is told by write.
func (p *runPrinter) say(text string) {
	_ = p.write(p.app.Err, text+"\n")
}

// note prints something worth knowing.
func (p *runPrinter) note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.emit(runEvent{Event: "note", Message: text}) {
		p.say("berth: " + text)
	}
}

// containers says how many containers the task has.
func (p *runPrinter) containers(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.many = n > 1
}

// log prints a line of a container.
func (p *runPrinter) log(name string, l hostapi.LogLine) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.emit(runEvent{Event: "log", Line: &runLine{name, l}}) {
		return nil
	}
	w := p.app.Out
	if l.Stream == "stderr" {
		w = p.app.Err
	}
	return p.write(w, p.prefix(w, name)+l.Log+"\n")
}

// prefix is what a container's lines begin with.
func (p *runPrinter) prefix(w io.Writer, name string) string {
	if !p.many {
		return ""
	}
	if _, ok := terminal(w); !ok {
		return name + " | "
	}
	if _, known := p.colour[name]; !known {
		colours := []int{36, 33, 32, 35, 34} // cyan, yellow, green, magenta, blue; red is for errors
		p.colour[name] = colours[len(p.colour)%len(colours)]
	}
	return fmt.Sprintf("\x1b[%dm%s |\x1b[0m ", p.colour[name], name)
}

// wants says that the task uses an image.
func (p *runPrinter) wants(image string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.images[image]; !known {
		p.images[image] = false
	}
}

// pulls shows the pulls under way, as bars on a terminal.
func (p *runPrinter) pulls(pulls []hostapi.PullView) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ours := slices.DeleteFunc(slices.Clone(pulls), func(v hostapi.PullView) bool {
		_, known := p.images[v.Image]
		return !known
	})
	for i := range ours {
		p.emit(runEvent{Event: "pull", Pull: &ours[i]})
	}
	if p.bars != nil {
		p.bars.update(ours)
	}
}

// container says how a container is now.
func (p *runPrinter) container(c *hostapi.ContainerView) {
	p.mu.Lock()
	defer p.mu.Unlock()
	here := c.ID != "" || c.Status == "PULLED" // A digest is known before its image is here.
	if p.emit(runEvent{Event: "container", Container: c}) || !here || c.Digest == "" || p.images[c.Image] {
		return
	}
	p.images[c.Image] = true
	p.say("image " + c.Image + "  " + c.Digest)
}

// ports says where the task can be reached.
func (p *runPrinter) ports(t *hostapi.TaskView) {
	var where []string
	for i := range t.Containers {
		c := &t.Containers[i]
		for _, port := range c.Ports {
			text := fmt.Sprintf("%s %d/%s at port %d", c.Name, port.ContainerPort, port.Protocol, port.HostPort)
			if port.HostPort != 0 && !slices.Contains(where, text) { // One for each family is the same to a reader.
				where = append(where, text)
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(where) > 0 && !p.emit(runEvent{Event: "ports", Task: t}) {
		p.say("ports " + strings.Join(where, ", "))
	}
}

// result is the last event.
func (p *runPrinter) result(t *hostapi.TaskView, code int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.emit(runEvent{Event: "result", Task: t, ExitCode: &code})
}

// close ends the bars.
func (p *runPrinter) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bars != nil {
		p.bars.update(nil)
	}
}
