package volumes

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/runtime/volume"
)

// helperScript stands in for mount.efs: it notes what it was called with, and
// binds a directory of the test's in place of the file system.
const helperScript = `#!/bin/sh
echo "$*" >>"$EFS/calls"
fs=${1%%:*}; root=; case $1 in *:*) root=${1#*:};; esac
if [ -e "$EFS/hang" ]; then sleep 600; fi
if [ ! -d "$EFS/$fs$root" ]; then
	echo "b'mount.nfs4: mounting $fs:$root failed, reason given by server: No such file or directory'" >&2
	exit 32
fi
exec mount --bind "$EFS/$fs$root" "$2"
`

// standIn puts mount.efs into the search path; its file systems are directories of
// the one it answers.
func standIn(t *testing.T) string {
	t.Helper()
	bin, server := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(bin, helperEFS), []byte(helperScript), 0o755))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("EFS", server)
	return server
}

func calls(t *testing.T, server string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(server, "calls"))
	must(t, err)
	return string(data)
}

func TestEFS(t *testing.T) {
	server := standIn(t)
	must(t, os.MkdirAll(filepath.Join(server, "fs-1/export"), 0o755))
	v := newVolumes(t, Config{})
	efs := func(role string) volume.Volume {
		return volume.Volume{Name: "of-" + role, EFS: &volume.EFS{
			FileSystemID: "fs-1", RootDirectory: "/export", TLS: true, TLSPort: 2999, IAM: role != "", CredentialsURI: role,
		}}
	}
	place, err := v.Acquire(t.Context(), "t1", efs(""))
	must(t, err)
	if !place.CopyUp {
		t.Error("an empty file system takes nothing from the image")
	}
	put(t, filepath.Join(place.Path, "a"), "b")
	if !there(filepath.Join(server, "fs-1/export/a")) {
		t.Fatal("it is not mounted")
	}
	if again := acquire(t, v, "t2", efs("")); again != place.Path {
		t.Errorf("the second task has %s, the first %s", again, place.Path)
	}
	// Another role is another mount.
	signed, err := v.Acquire(t.Context(), "t3", efs("/v2/credentials/x"))
	must(t, err)
	if signed.Path == place.Path || signed.CopyUp {
		t.Errorf("signed: %+v", signed)
	}
	want := "fs-1:/export " + place.Path + " -o tls,tlsport=2999\n" +
		"fs-1:/export " + signed.Path + " -o tls,tlsport=2999,iam,awscredsuri=/v2/credentials/x\n"
	if got := calls(t, server); got != want {
		t.Errorf("calls:\n%swant:\n%s", got, want)
	}

	// The last one unmounts, and what is on the server stays.
	must(t, v.Release(t.Context(), "t1"))
	if n, err := mountsAt(place.Path); n != 1 {
		t.Errorf("one of two has left: mounted %d times, %v", n, err)
	}
	must(t, v.Release(t.Context(), "t2"))
	must(t, v.Remove(t.Context(), "t3"))
	entries, err := os.ReadDir(v.cfg.Dir)
	if len(entries) > 0 || err != nil {
		t.Errorf("left: %v, %v", entries, err)
	}
	if !there(filepath.Join(server, "fs-1/export/a")) {
		t.Error("the content of the file system is gone")
	}
}

func TestEFSErrors(t *testing.T) {
	server := standIn(t)
	v := newVolumes(t, Config{MountTimeout: 300 * time.Millisecond})
	for _, tc := range []struct {
		efs  volume.EFS
		want string
	}{
		{volume.EFS{FileSystemID: "-o"}, `cannot mount EFS: "-o" is not the id of a file system`},
		{volume.EFS{FileSystemID: "fs_1"}, `cannot mount EFS: "fs_1" is not the id of a file system`},
		{volume.EFS{FileSystemID: "fs-1", AccessPointID: "x,y"}, `cannot mount EFS file system fs-1: "x,y" is not the id of an access point`},
		{volume.EFS{FileSystemID: "fs-1"}, "cannot mount EFS file system fs-1: mount.efs: b'mount.nfs4: mounting fs-1: failed, reason given by server: No such file or directory'"},
	} {
		_, err := v.Acquire(t.Context(), "t1", volume.Volume{Name: "a", EFS: &tc.efs})
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("Acquire: %v\nwant: %s", err, tc.want)
		}
	}
	put(t, filepath.Join(server, "hang"), "")
	started := time.Now()
	_, err := v.Acquire(t.Context(), "t1", volume.Volume{Name: "a", EFS: &volume.EFS{FileSystemID: "fs-1"}})
	if err == nil || err.Error() != "cannot mount EFS file system fs-1: mount.efs did not end within 300ms" {
		t.Errorf("Acquire: %v", err)
	}
	if took := time.Since(started); took > 50*time.Second {
		t.Errorf("it took %v", took)
	}
	entries, err := os.ReadDir(v.cfg.Dir)
	if len(entries) > 0 || err != nil {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// Without mount.efs the kernel's client is asked, by address and with the options
// that the ECS agent gives (spec/task-engine.md §5.5).
func TestEFSByKernel(t *testing.T) {
	if HasEFSHelper() {
		t.Skip("this host has mount.efs")
	}
	var looked string
	v := newVolumes(t, Config{Region: "cn-north-1", Resolve: func(_ context.Context, _, host string) ([]netip.Addr, error) {
		looked = host
		if strings.HasPrefix(host, "fs-0") {
			return nil, errors.New("no such host")
		}
		return []netip.Addr{netip.MustParseAddr("10.0.0.7")}, nil
	}})
	bin := t.TempDir()
	for name, script := range map[string]string{"mount": `echo "$0 $*" | sed "s,$BIN/,," >>"$BIN/calls"`, "nsenter": `echo "nsenter $1" >>"$BIN/calls"; shift 2; exec "$@"`} {
		must(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("BIN", bin)
	const options = "addr=10.0.0.7,nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport"
	plain := acquire(t, v, "t1", volume.Volume{Name: "a", EFS: &volume.EFS{FileSystemID: "fs-1", RootDirectory: "x/../y"}})
	own := acquire(t, v, "t1", volume.Volume{Name: "b", EFS: &volume.EFS{FileSystemID: "fs-1", NetNS: "/run/netns/x"}})
	data, err := os.ReadFile(filepath.Join(bin, "calls"))
	must(t, err)
	want := "mount -i -t nfs -o " + options + " :/y " + plain + "\n" +
		"nsenter --net=/run/netns/x\nmount -i -t nfs -o " + options + " :/ " + own + "\n"
	if string(data) != want {
		t.Errorf("calls:\n%swant:\n%s", data, want)
	}
	if want := "fs-1.efs.cn-north-1.amazonaws.com.cn"; looked != want {
		t.Errorf("looked for %s, want %s", looked, want)
	}
	for _, tc := range []struct {
		efs  volume.EFS
		want string
	}{
		{volume.EFS{FileSystemID: "fs-1", TLS: true}, "cannot mount EFS file system fs-1: encryption in transit, IAM authorization and access points need amazon-efs-utils (mount.efs) on the host"},
		{volume.EFS{FileSystemID: "fs-0"}, "cannot mount EFS file system fs-0: cannot find file server fs-0.efs.cn-north-1.amazonaws.com.cn: no such host"},
	} {
		_, err := v.Acquire(t.Context(), "t2", volume.Volume{Name: "a", EFS: &tc.efs})
		if err == nil || err.Error() != tc.want {
			t.Errorf("Acquire: %v\nwant: %s", err, tc.want)
		}
	}
}

// The plugin's volumes, and addresses of file servers, in the local driver's words.
func TestRequests(t *testing.T) {
	v := &Volumes{}
	for _, tc := range []struct {
		w      volume.Volume
		want   string
		server string
	}{
		{
			w:    volume.Volume{Name: "a", Driver: volume.DriverECS, Options: map[string]string{"device": "fs-1:/x", "o": "tls,accesspoint=fsap-1"}},
			want: "fs-1:/x TARGET -o tls,accesspoint=fsap-1",
		},
		{
			w:    volume.Volume{Name: "a", Options: map[string]string{"type": "nfs", "device": ":/x", "o": "addr=files.example,nolock"}},
			want: "-i -t nfs -o nolock :/x TARGET", server: "files.example",
		},
		{
			w:    volume.Volume{Name: "a", Options: map[string]string{"type": "nfs", "device": ":/x", "o": "addr=::1,nolock"}},
			want: "-i -t nfs -o addr=::1,nolock :/x TARGET",
		},
	} {
		r, err := v.request(&tc.w)
		must(t, err)
		if got := strings.Join(r.args("TARGET"), " "); got != tc.want || r.server != tc.server || !r.remote {
			t.Errorf("args %q, server %q, remote %v", got, r.server, r.remote)
		}
	}
}
