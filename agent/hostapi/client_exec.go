package hostapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Exec runs a process in a container with the caller's streams and returns its exit code. Stdin may be nil if r.Stdin is false;
// Resize may be nil. When ctx ends the process is ended too, and ctx's cause is returned.
//
// Exec does not wait for a Read of stdin that is under way when the process ends: a terminal can only be read by pressing a key. That
// one goroutine ends with the next byte, or with the program.
func (c *Client) Exec(ctx context.Context, r ExecRequest, streams Streams) (int, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	req, err := request(ctx, http.MethodPost, "/v1/exec", r)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", upgradeProtocol)
	if err := req.Write(conn); err != nil {
		return 0, orCause(ctx, fmt.Errorf("cannot ask agent: %w", err))
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		return 0, orCause(ctx, fmt.Errorf("cannot read answer of agent: %w", err))
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer func() { _ = resp.Body.Close() }()
		return 0, refusal(resp)
	}
	frames := &frameWriter{w: conn}
	if r.Stdin && streams.Stdin != nil {
		go sendStdin(frames, streams.Stdin)
	}
	if streams.Resize != nil {
		done := make(chan struct{})
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			sendSizes(frames, streams.Resize, done)
		}()
		defer func() { close(done); <-gone }()
	}
	code, err := receiveOutput(in, streams)
	return code, orCause(ctx, err)
}

// orCause puts the cause of ctx's end before the error that the end made.
func orCause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// sendStdin ends at the end of stdin or when the connection is closed.
func sendStdin(frames *frameWriter, stdin io.Reader) {
	if _, err := io.Copy(stream{frames, frameStdin}, stdin); err == nil {
		_ = frames.frame(frameStdin, nil)
	}
}

func sendSizes(frames *frameWriter, sizes <-chan Size, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case s, ok := <-sizes:
			if !ok || frames.resize(s) != nil {
				return
			}
		}
	}
}

// receiveOutput writes what the process says until its exit code comes.
func receiveOutput(in io.Reader, streams Streams) (int, error) {
	for {
		kind, payload, err := readFrame(in)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, &Error{Code: CodeUnavailable, Message: "the agent broke off before the process ended"}
		}
		if err != nil {
			return 0, err
		}
		switch kind {
		case frameStdout:
			_, err = streams.Stdout.Write(payload)
		case frameStderr:
			_, err = streams.Stderr.Write(payload)
		case frameExit:
			return exitCode(payload)
		case frameError:
			e := &Error{}
			if err := json.Unmarshal(payload, e); err != nil {
				return 0, fmt.Errorf("%w: error that cannot be read: %w", errFrame, err)
			}
			return 0, e
		case frameStdin, frameResize:
			return 0, fmt.Errorf("%w: kind %d from the agent", errFrame, kind)
		default:
			// A newer agent may say more than we know.
		}
		if err != nil {
			return 0, fmt.Errorf("cannot write output: %w", err)
		}
	}
}
