package localcluster

import (
	"sync"
)

// hub knows the open websocket sessions and wakes them. It holds no truth about
// the cluster, only about who is connected.
type hub struct {
	mu  sync.Mutex          // Guards both maps.
	acs map[string]*session // By instance ARN; a new connection replaces the old.
	tcs map[string]*session
}

// session is the handle of a running session. The session's own goroutine owns
// all else.
type session struct {
	wake     chan struct{} // The state changed; one token says enough.
	commands chan command  // From faults; room for a burst, more is dropped.
}

// command makes a session do something out of turn.
type command struct {
	drop     bool   // Close the TCP connection without a word.
	close    int    // Close with this websocket code.
	raw      string // Send this text as a frame.
	again    bool   // Send the last payload again.
	manifest bool   // Send a task manifest.
	replaced bool   // Another connection took over.
}

func newHub() *hub { return &hub{acs: map[string]*session{}, tcs: map[string]*session{}} }

func newSession() *session {
	return &session{wake: make(chan struct{}, 1), commands: make(chan command, 16)}
}

// join makes a session the one of its instance and tells the one before to go.
func (h *hub) join(table map[string]*session, arn string, s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := table[arn]; old != nil {
		old.command(command{replaced: true})
	}
	table[arn] = s
}

func (h *hub) leave(table map[string]*session, arn string, s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if table[arn] == s {
		delete(table, arn)
	}
}

func (h *hub) connected(arn string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acs[arn] != nil
}

// wake tells all ACS sessions that the state changed.
func (h *hub) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.acs {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// broadcast gives a command to all sessions of a table.
func (h *hub) broadcast(table map[string]*session, c command) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range table {
		s.command(c)
	}
	return len(table)
}

func (s *session) command(c command) {
	select {
	case s.commands <- c:
	default:
	}
}
