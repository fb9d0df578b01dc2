package hostapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"go.uber.org/zap"
)

// exec checks the request while there still is an HTTP status to say no with, upgrades, and hands the connection to a session.
func (s *Server) exec(w http.ResponseWriter, r *http.Request) {
	if s.p.Executor == nil {
		writeError(w, notProvided("exec"))
		return
	}
	var req ExecRequest
	if err := decode(w, r, &req); err != nil {
		writeError(w, err)
		return
	}
	if err := s.checkExec(r, req); err != nil {
		writeError(w, err)
		return
	}
	s.execs.Add(1)
	defer s.execs.Done()
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		writeError(w, fmt.Errorf("cannot take over connection: %w", err))
		return
	}
	defer func() { _ = conn.Close() }()
	const answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + upgradeProtocol + "\r\n\r\n"
	if _, err := io.WriteString(conn, answer); err != nil {
		return // the caller is gone
	}
	// Not the arguments: people put passwords there.
	s.log.Info("exec", caller(r), zap.String("container", req.Container), zap.String("command", req.Args[0]))
	s.session(r.Context(), conn, buf.Reader, req)
}

func (s *Server) checkExec(r *http.Request, req ExecRequest) error {
	switch {
	case !strings.EqualFold(r.Header.Get("Upgrade"), upgradeProtocol):
		return invalid("want Upgrade: %s", upgradeProtocol)
	case req.Container == "":
		return invalid("no container")
	case len(req.Args) == 0:
		return invalid("no command")
	}
	if s.p.Tasks == nil {
		return nil
	}
	for _, t := range s.p.Tasks.Tasks() {
		for _, c := range t.Containers {
			if c.ID == req.Container {
				if c.Status != "RUNNING" {
					return &Error{Code: CodeConflict, Message: fmt.Sprintf("container %s is %s", c.Name, c.Status)}
				}
				return nil
			}
		}
	}
	return &Error{Code: CodeNotFound, Message: fmt.Sprintf("there is no container %q", req.Container), Hint: "berth ps lists them"}
}

// session runs the process and moves bytes until it ends, the caller goes, or ctx ends.
func (s *Server) session(ctx context.Context, conn net.Conn, in *bufio.Reader, req ExecRequest) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	frames := &frameWriter{w: conn}
	stdin, stdinWriter := io.Pipe()
	resize := make(chan Size, 1) // one: only the newest size matters
	received := make(chan struct{})
	go func() {
		defer close(received)
		cancel(receive(in, stdinWriter, resize))
	}()
	streams := Streams{Stdin: stdin, Stdout: stream{frames, frameStdout}, Stderr: stream{frames, frameStderr}}
	if req.Terminal {
		streams.Resize = resize
	}
	if !req.Stdin {
		streams.Stdin = strings.NewReader("")
		_ = stdin.Close() // so that what a caller sends all the same is thrown away
	}
	code, err := s.p.Executor.Exec(ctx, req, streams)
	if err != nil {
		err = frames.fail(err)
	} else {
		err = frames.exit(code)
	}
	if err != nil {
		s.log.Debug("exec caller went away", zap.String("container", req.Container), zap.Error(err))
	}
	// Both let the receiver go: the pipe if it waits to write stdin, the connection if it waits to read.
	_ = stdin.Close()
	_ = conn.Close()
	<-received
}

var errCallerGone = errors.New("caller went away")

// receive takes the caller's frames apart until the caller goes; its error says so and ends the process.
func receive(in *bufio.Reader, stdin *io.PipeWriter, resize chan Size) error {
	for {
		kind, payload, err := readFrame(in)
		if err != nil {
			_ = stdin.CloseWithError(errCallerGone)
			return fmt.Errorf("%w: %w", errCallerGone, err)
		}
		switch kind {
		case frameStdin:
			if len(payload) == 0 {
				_ = stdin.Close()
				continue
			}
			// A process that closed its stdin is not the end of the session.
			_, _ = stdin.Write(payload)
		case frameResize:
			size, err := sizeOf(payload)
			if err != nil {
				return err
			}
			newest(resize, size)
		case frameStdout, frameStderr, frameExit, frameError:
			return fmt.Errorf("%w: kind %d from a caller", errFrame, kind)
		default:
			// A newer client may say more than we know.
		}
	}
}

// newest puts size into a channel of one slot, in place of one that nobody took. There is one sender.
func newest(resize chan Size, size Size) {
	select {
	case <-resize:
	default:
	}
	resize <- size
}
