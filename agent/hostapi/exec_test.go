package hostapi_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/hostapi/hostapitest"
)

func TestExec(t *testing.T) {
	_, c := serve(t)
	tests := []struct {
		args        []string
		stdin       string
		out, errOut string
		code        int
	}{
		{[]string{"echo", "a", "b"}, "", "a b\n", "", 0},
		{[]string{"cat"}, "one\ntwo", "one\ntwo", "", 0},
		{[]string{"cat"}, "", "", "", 0},
		{[]string{"fail", "no"}, "", "", "no\n", 1},
		{[]string{"exit", "42"}, "", "", "", 42},
		{[]string{"exit", "-1"}, "", "", "", -1},
		{[]string{"ask"}, "ann\nleft over", "hello ann\n", "", 0},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " ")+"<"+tt.stdin, func(t *testing.T) {
			var out, errOut bytes.Buffer
			code, err := c.Exec(t.Context(),
				hostapi.ExecRequest{Container: "web-1", Args: tt.args, Stdin: true},
				hostapi.Streams{Stdin: strings.NewReader(tt.stdin), Stdout: &out, Stderr: &errOut})
			if err != nil {
				t.Fatal(err)
			}
			if out.String() != tt.out || errOut.String() != tt.errOut || code != tt.code {
				t.Errorf("out %q, err %q, code %d; want %q, %q, %d", out.String(), errOut.String(), code, tt.out, tt.errOut, tt.code)
			}
		})
	}
}

func TestExecMovesALotUnchanged(t *testing.T) {
	_, c := serve(t)
	const size = 8 << 20
	input := make([]byte, size)
	if _, err := rand.NewChaCha8([32]byte{1}).Read(input); err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	code, err := c.Exec(t.Context(), hostapi.ExecRequest{Container: "web-1", Args: []string{"cat"}, Stdin: true},
		hostapi.Streams{Stdin: bytes.NewReader(input), Stdout: sum, Stderr: io.Discard})
	if err != nil || code != 0 {
		t.Fatalf("code %d, %v", code, err)
	}
	if want := sha256.Sum256(input); !bytes.Equal(sum.Sum(nil), want[:]) {
		t.Error("8 MiB came back changed")
	}
}

func TestExecWithoutStdinThrowsItAway(t *testing.T) {
	_, c := serve(t)
	if out, err := exec(t.Context(), c, "web-1", "cat"); err != nil || out != "" {
		t.Errorf("out %q, %v", out, err)
	}
}

func TestExecResize(t *testing.T) {
	_, c := serve(t)
	sizes := make(chan hostapi.Size)
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(t.Context(),
			hostapi.ExecRequest{Container: "web-1", Args: []string{"size", "2"}, Terminal: true, Size: hostapi.Size{Width: 80, Height: 24}},
			hostapi.Streams{Stdout: in, Stderr: in, Resize: sizes})
		done <- errors.Join(err, in.Close())
	}()
	buf := make([]byte, 100)
	for _, step := range []struct {
		want string
		next hostapi.Size
	}{{"80x24\n", hostapi.Size{Width: 100, Height: 30}}, {"100x30\n", hostapi.Size{Width: 65535, Height: 1}}, {"65535x1\n", hostapi.Size{}}} {
		n, err := out.Read(buf)
		if err != nil || string(buf[:n]) != step.want {
			t.Fatalf("terminal of %q, want %q; %v", buf[:n], step.want, err)
		}
		if step.next.Width > 0 {
			sizes <- step.next
		}
	}
	if _, err := out.Read(buf); !errors.Is(err, io.EOF) {
		t.Errorf("after the last size: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestExecEndsWhenTheCallerLeaves(t *testing.T) {
	h, _ := serve(t)
	ended := make(chan error, 1)
	p := h.Providers()
	p.Executor = watched{h, ended}
	c := hostapi.NewClient(hostapitest.Serve(t, p))
	ctx, cancel := context.WithCancelCause(t.Context())
	out, in := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(ctx, hostapi.ExecRequest{Container: "web-1", Args: []string{"hang"}}, hostapi.Streams{Stdout: in, Stderr: in})
		done <- err
	}()
	if _, err := out.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	left := errors.New("ctrl-c")
	cancel(left)
	if err := <-done; !errors.Is(err, left) {
		t.Errorf("client answers %v, want the cause", err)
	}
	if err := <-ended; err == nil {
		t.Error("the process was not told to end")
	}
}

// watched tells how an exec ended.
type watched struct {
	hostapi.Executor

	ended chan error
}

func (w watched) Exec(ctx context.Context, r hostapi.ExecRequest, s hostapi.Streams) (int, error) {
	code, err := w.Executor.Exec(ctx, r, s)
	w.ended <- err
	return code, err
}
