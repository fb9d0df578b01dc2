package hostapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/berthd/berth/agent/config"
)

// Client speaks to the agent over its socket. Its methods may be called from any goroutine and return an *Error if the agent says no
// or is not there. Making one costs nothing; there is nothing to close.
type Client struct {
	path string
	http *http.Client
}

// NewClient makes a client of the agent whose socket is at path.
func NewClient(path string) *Client {
	c := &Client{path: path}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DisableKeepAlives: true, // a command asks once
		Proxy:             nil,
	}}
	return c
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.path)
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, &Error{
			Code: CodeForbidden, Message: "cannot open " + c.path + ": permission denied",
			Hint: "run it as root, or join the group: usermod -aG " + config.Group + " USER, then log in again",
		}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, &Error{
			Code: CodeUnreachable, Message: "the agent does not answer at " + c.path,
			Hint: "systemctl status berth shows whether it runs; systemctl start berth starts it",
		}
	default:
		return nil, fmt.Errorf("cannot reach agent: %w", err)
	}
}

// Status asks for the agent as a whole.
func (c *Client) Status(ctx context.Context) (StatusView, error) {
	var v StatusView
	err := c.get(ctx, "/v1/status", &v)
	return v, err
}

// Tasks asks for all tasks.
func (c *Client) Tasks(ctx context.Context) ([]TaskView, error) {
	var v taskList
	err := c.get(ctx, "/v1/tasks", &v)
	return v.Tasks, err
}

// Task asks for the one task that ref means; see FindTask.
func (c *Client) Task(ctx context.Context, ref string) (TaskView, error) {
	var v TaskView
	err := c.get(ctx, "/v1/tasks/"+url.PathEscape(ref), &v)
	return v, err
}

// Why asks what a task waits for.
func (c *Client) Why(ctx context.Context, ref string) ([]Wait, error) {
	var v waitList
	err := c.get(ctx, "/v1/tasks/"+url.PathEscape(ref)+"/why", &v)
	return v.Waits, err
}

// Stop begins to stop a task; reason is what ECS and `berth ps` will show.
func (c *Client) Stop(ctx context.Context, ref, reason string) error {
	body := struct {
		Reason string `json:"reason,omitempty"`
	}{reason}
	return c.do(ctx, http.MethodPost, "/v1/tasks/"+url.PathEscape(ref)+"/stop", body, &struct{}{})
}

// Stats asks for the latest sample of each running container.
func (c *Client) Stats(ctx context.Context) ([]StatsView, error) {
	var v statsList
	err := c.get(ctx, "/v1/stats", &v)
	return v.Containers, err
}

// Images asks for all images.
func (c *Client) Images(ctx context.Context) ([]ImageView, error) {
	var v imageList
	err := c.get(ctx, "/v1/images", &v)
	return v.Images, err
}

// Settings asks for the settings that count now: those the agent started with, but for what was read again since.
func (c *Client) Settings(ctx context.Context) ([]config.Setting, error) {
	var v settingList
	err := c.get(ctx, "/v1/config", &v)
	return v.Settings, err
}

// Events calls emit with the kept events and, with follow, all that come until ctx ends.
func (c *Client) Events(ctx context.Context, follow bool, emit func(Event) error) error {
	return streamOf(ctx, c, http.MethodGet, "/v1/events?follow="+strconv.FormatBool(follow), emit)
}

// Logs calls emit with each line that r asks for.
func (c *Client) Logs(ctx context.Context, r LogRequest, emit func(LogLine) error) error {
	q := url.Values{"container": {r.Container}, "follow": {strconv.FormatBool(r.Follow)}}
	if r.Tail >= 0 {
		q.Set("tail", strconv.Itoa(r.Tail))
	}
	if !r.Since.IsZero() {
		q.Set("since", r.Since.Format(time.RFC3339Nano))
	}
	return streamOf(ctx, c, http.MethodGet, "/v1/logs?"+q.Encode(), emit)
}

// Pulls calls emit with all pulls under way each time they change, until none is left or, with follow, until ctx ends.
func (c *Client) Pulls(ctx context.Context, follow bool, emit func([]PullView) error) error {
	return streamOf(ctx, c, http.MethodGet, "/v1/pulls?follow="+strconv.FormatBool(follow), func(l pullList) error { return emit(l.Pulls) })
}

// Pull pulls an image and calls progress as it goes; the last call has Done.
func (c *Client) Pull(ctx context.Context, image string, progress func(PullView) error) error {
	return streamOf(ctx, c, http.MethodPost, "/v1/pull?image="+url.QueryEscape(image), progress)
}

func (c *Client) get(ctx context.Context, path string, v any) error {
	return c.do(ctx, http.MethodGet, path, nil, v)
}

// do asks once and decodes the answer into v.
func (c *Client) do(ctx context.Context, method, path string, body, v any) error {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("cannot read answer of agent: %w", err)
	}
	return nil
}

// send asks and answers a response with a good status, whose body the caller closes.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	req, err := request(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fromTransport(err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer func() { _ = resp.Body.Close() }()
		return nil, refusal(resp)
	}
	return resp, nil
}

func request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var r io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("cannot encode request: %w", err)
		}
		r = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://berth"+path, r)
	if err != nil {
		return nil, fmt.Errorf("cannot make request: %w", err)
	}
	return req, nil
}

// fromTransport takes our own error out of the wrapping of net/http, whose text would name a made-up URL.
func fromTransport(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return fmt.Errorf("cannot ask agent: %w", err)
}

// refusal reads the error of a bad status.
func refusal(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("cannot read answer of agent: %w", err)
	}
	var e envelope
	if err := json.Unmarshal(text, &e); err != nil || e.Error == nil {
		return fmt.Errorf("agent answers %s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	return e.Error
}

// streamOf calls emit with each JSON line of an answer. The end of ctx is the end of the stream and no error.
func streamOf[T any](ctx context.Context, c *Client, method, path string, emit func(T) error) error {
	resp, err := c.send(ctx, method, path, nil)
	if ctx.Err() != nil && err != nil {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	dec := json.NewDecoder(resp.Body)
	for {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		switch {
		case errors.Is(err, io.EOF), ctx.Err() != nil:
			return nil
		case err != nil:
			return &Error{Code: CodeUnavailable, Message: "the agent broke off: " + err.Error()}
		}
		var last streamError
		if err := json.Unmarshal(raw, &last); err == nil && last.StreamError != nil {
			return last.StreamError
		}
		var v T
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("cannot read line of agent: %w", err)
		}
		if err := emit(v); err != nil {
			return err
		}
	}
}
