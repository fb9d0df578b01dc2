package systemd

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nextFile is the next message, and the file that came along, if one did.
func (m manager) nextFile(t *testing.T) (string, *os.File) {
	t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf, oob := make([]byte, 4096), make([]byte, 4096)
	n, more, _, _, err := m.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:more])
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range messages {
		fds, err := unix.ParseUnixRights(&message)
		if err == nil && len(fds) == 1 {
			return string(buf[:n]), os.NewFile(uintptr(fds[0]), "came along")
		}
	}
	return string(buf[:n]), nil
}

func TestKeep(t *testing.T) {
	m := listen(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if err := Keep("lock", w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got, f := m.nextFile(t); got != "FDSTOREREMOVE=1\nFDNAME=lock" || f != nil {
		t.Errorf("first systemd heard %q", got)
	}
	got, f := m.nextFile(t)
	if got != "FDSTORE=1\nFDNAME=lock\nFDPOLL=0" || f == nil {
		t.Fatalf("then systemd heard %q, with %v", got, f)
	}
	if _, err := f.WriteString("the same pipe"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); string(text) != "the same pipe" || err != nil {
		t.Errorf("read %q, %v", text, err)
	}
}

func TestKeepWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Keep("lock", os.Stdin); err != nil {
		t.Error(err)
	}
}

// The test runs itself as the next process, with files as systemd passes them.
func TestKept(t *testing.T) {
	if os.Getenv("BERTH_TEST_KEPT") != "" {
		kept := Kept()
		for name, f := range kept {
			text, err := io.ReadAll(f)
			t.Logf("%s: %s %v", name, text, err)
		}
		if again := Kept(); len(again) != 0 {
			t.Errorf("asked again: %v", again)
		}
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("what was kept"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// A shell becomes the process, so that its number is known.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run='^TestKept$' -test.v`, self)
	cmd.Env = append(os.Environ(), "BERTH_TEST_KEPT=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=lock:lock")
	empty, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{empty, r}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "lock: what was kept <nil>") {
		t.Errorf("%v\n%s", err, out)
	}
	if got := Kept(); len(got) != 0 {
		t.Errorf("this process has kept %v", got)
	}
}
