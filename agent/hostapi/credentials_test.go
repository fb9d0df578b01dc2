package hostapi_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	osexec "os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/berthd/berth/agent/hostapi/hostapitest"
)

// vault answers with the id it was asked for.
type vault struct{}

func (vault) ServeRoleCredentials(w http.ResponseWriter, _ *http.Request, id string) {
	_, _ = io.WriteString(w, "keys of "+id)
}

// TestCredentials: to root they are served, and to nobody else who may open the
// socket.
func TestCredentials(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it asks as root and as another")
	}
	curl, err := osexec.LookPath("curl")
	if err != nil {
		t.Skipf("needs curl: %v", err)
	}
	p := hostapitest.New().Providers()
	p.Credentials = vault{}
	path := hostapitest.Serve(t, p)
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://berth/v1/credentials/1-2-3", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || string(body) != "keys of 1-2-3" {
		t.Errorf("root got %d %s, %v", res.StatusCode, body, err)
	}

	// Another, of the group that may open the socket.
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(path); dir != filepath.Dir(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o1 == 0 { // A directory of this test's own.
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := osexec.CommandContext(t.Context(), curl, "-sS", "--unix-socket", path, "http://berth/v1/credentials/1-2-3")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != `{"error":{"code":"Forbidden","message":"only root gets the credentials of tasks' roles"}}`+"\n" {
		t.Errorf("another got %s, %v", out, err)
	}
}
