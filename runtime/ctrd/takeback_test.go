package ctrd

import (
	"errors"
	"testing"
)

func TestIsTakenBack(t *testing.T) {
	for words, want := range map[string]bool{
		"mkdir /run/containerd/io.containerd.runtime.v2.task/berth/c1: file exists":          true,
		"mkdir /run/containerd/io.containerd.runtime.v2.task/berth/c1: file exists: unknown": true,
		"mkdir /run/containerd/io.containerd.runtime.v2.task/berth/c12: file exists":         false,
		"mkdir /srv/c1: file exists": false,
		"symlink /var/lib/containerd/io.containerd.runtime.v2.task/berth/c1 /run/x/io.containerd.runtime.v2.task/berth/c1/work: no such file or directory": true,
		"failed to start shim: start failed: io.containerd.runc.v2: getwd: no such file or directory: exit status 1":                                       true,
		"OCI runtime create failed: mkdir /run/x/io.containerd.runtime.v2.task/berth/c1/rootfs/a: no such file or directory":                               false,
		`OCI runtime create failed: exec: "web": executable file not found in $PATH`:                                                                       false,
	} {
		if got := isTakenBack(errors.New(words), "c1"); got != want {
			t.Errorf("%q: %v", words, got)
		}
	}
}
