package logs

import (
	"errors"
	"path/filepath"
	"testing"
	"time"
)

// An update, again and again: the agent is replaced, and the new one replaces the log process. The writers never rest and never notice.
func TestReplacedUnderLoad(t *testing.T) {
	replaced := underLoad(t, 2*time.Second, func(h *host, c Container) {
		if err := h.client.Detach(); err != nil { // The old agent is gone, and holds nothing.
			t.Fatal(err)
		}
		h.client = h.newClient()
		if _, err := h.client.Open(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		was, err := h.client.Process(t.Context())
		if err != nil || was.PID == 0 {
			t.Fatalf("%+v: %v", was, err)
		}
		for range 2 { // An answer may be lost, and the question asked again.
			if err := h.client.Retire(t.Context(), was); err != nil {
				t.Fatal(err)
			}
		}
		for is := was; is == was; {
			if is, err = h.client.Process(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Logf("replaced %d times", replaced)
	if replaced < 2 {
		t.Errorf("replaced %d times only", replaced)
	}
}

// A container that another agent opened ends while there is no log process: its last words are in the pipe, and are kept.
func TestLastWordsBetweenProcesses(t *testing.T) {
	h := newHost(t, "0")
	stdout, stderr := h.open(Container{ID: "c1"})
	was, err := h.client.Process(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := h.client.Detach(); err != nil {
		t.Fatal(err)
	}
	h.client = NewClient(ClientConfig{ // Nothing starts a log process before it says so.
		Socket: filepath.Join(h.root, "sock"), Dir: filepath.Join(h.root, "run"), DataDir: filepath.Join(h.root, "data"), Patience: 50 * time.Millisecond,
	})
	if err := h.client.Retire(t.Context(), was); err != nil {
		t.Fatal(err)
	}
	for h.pid() != 0 {
		if _, err := h.client.Process(t.Context()); err == nil {
			continue // It is on its way out.
		}
	}
	if _, err := stdout.w.Write([]byte("the last words\n")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(stdout.close(), stderr.close()); err != nil {
		t.Fatal(err)
	}
	if err := h.spawner.Start(); err != nil {
		t.Fatal(err)
	}
	h.client.cfg.Patience = 10 * time.Second
	if err := h.client.Close(t.Context(), "c1"); err != nil {
		t.Fatal(err)
	}
	if lines := h.read(ReadRequest{ID: "c1"}); len(lines) != 1 || lines[0].Log != "the last words\n" {
		t.Errorf("%+v", lines)
	}
}

// Somebody else's request does not end the process that came after.
func TestRetireMeansOneProcess(t *testing.T) {
	h := newHost(t, "0")
	was, err := h.client.Process(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := h.client.Retire(t.Context(), Process{PID: was.PID + 1}); err != nil && !errors.Is(err, ErrOld) {
		t.Fatal(err)
	}
	if is, err := h.client.Process(t.Context()); err != nil || is != was {
		t.Errorf("%+v, was %+v: %v", is, was, err)
	}
}
