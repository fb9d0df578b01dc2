package hostapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"time"
)

// pullTick is how often the progress of pulls is looked at for GET /v1/pulls.
const pullTick = 250 * time.Millisecond

// lines writes JSON lines. A failure after the first line cannot change the HTTP status any more, so it becomes a last line of the
// form {"streamError": {…}}.
type lines struct {
	w       http.ResponseWriter
	ctl     *http.ResponseController
	enc     *json.Encoder
	started bool
}

// streamError is that last line.
type streamError struct {
	StreamError *Error `json:"streamError"`
}

func newLines(w http.ResponseWriter) *lines {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &lines{w: w, ctl: http.NewResponseController(w), enc: enc}
}

// start sends the header, so that a follower knows it is connected before the first line.
func (l *lines) start() error {
	if l.started {
		return nil
	}
	l.started = true
	l.w.Header().Set("Content-Type", "application/x-ndjson")
	l.w.WriteHeader(http.StatusOK)
	return l.flush()
}

func (l *lines) write(v any) error {
	if err := l.start(); err != nil {
		return err
	}
	if err := l.enc.Encode(v); err != nil {
		return fmt.Errorf("cannot write line: %w", err)
	}
	return nil
}

func (l *lines) flush() error {
	if err := l.ctl.Flush(); err != nil {
		return fmt.Errorf("cannot flush line: %w", err)
	}
	return nil
}

// send writes and flushes.
func (l *lines) send(v any) error {
	if err := l.write(v); err != nil {
		return err
	}
	return l.flush()
}

// end finishes the stream; the errors of a caller that went away are nobody's business.
func (l *lines) end(ctx context.Context, err error) {
	switch {
	case err == nil:
		_ = l.start()
	case ctx.Err() != nil:
	case !l.started:
		writeError(l.w, err)
	default:
		_ = l.send(streamError{asError(err)})
	}
}

func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if s.p.Events == nil {
		writeError(w, notProvided("events"))
		return
	}
	follow, err := flag(r, "follow")
	if err != nil {
		writeError(w, err)
		return
	}
	l := newLines(w)
	if err := l.start(); err != nil {
		return
	}
	l.end(r.Context(), s.p.Events.Read(r.Context(), follow, func(e Event) error { return l.send(e) }))
}

func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	if s.p.Logs == nil {
		writeError(w, notProvided("logs"))
		return
	}
	req, err := logRequest(r)
	if err != nil {
		writeError(w, err)
		return
	}
	l := newLines(w)
	// A whole file is many lines: only a follower needs each of them at once.
	emit := func(line LogLine) error { return l.write(line) }
	if req.Follow {
		emit = func(line LogLine) error { return l.send(line) }
	}
	l.end(r.Context(), s.p.Logs.Logs(r.Context(), req, emit))
}

// pullList is one line of GET /v1/pulls.
type pullList struct {
	Pulls []PullView `json:"pulls"`
}

func (s *Server) pulls(w http.ResponseWriter, r *http.Request) {
	if s.p.Puller == nil {
		writeError(w, notProvided("pulls"))
		return
	}
	follow, err := flag(r, "follow")
	if err != nil {
		writeError(w, err)
		return
	}
	l := newLines(w)
	ticker := time.NewTicker(pullTick)
	defer ticker.Stop()
	var last []PullView
	for first := true; ; first = false {
		now := append([]PullView{}, s.p.Puller.Pulls()...)
		if first || !reflect.DeepEqual(now, last) {
			if err := l.send(pullList{now}); err != nil {
				return
			}
		}
		last = now
		if len(now) == 0 && !follow {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *Server) pull(w http.ResponseWriter, r *http.Request) {
	if s.p.Puller == nil {
		writeError(w, notProvided("pulls"))
		return
	}
	image := r.URL.Query().Get("image")
	if image == "" {
		writeError(w, invalid("no image: want ?image=REFERENCE"))
		return
	}
	l := newLines(w)
	done, err := s.p.Puller.Pull(r.Context(), image, func(p PullView) {
		// A caller that went away ends the pull through its context; there is nothing else to do about a failed write.
		_ = l.send(p)
	})
	if err == nil {
		err = l.send(PullView{Image: image, Digest: done.Digest, BytesDone: done.Size, BytesTotal: done.Size, Done: true})
	}
	if errors.Is(err, context.Canceled) {
		return
	}
	l.end(r.Context(), err)
}
