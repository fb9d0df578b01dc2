package ctrd

import (
	"compress/gzip"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// host is what the kernel of this host offers, read once.
type host struct {
	// unified says that cgroup v2 is in charge.
	unified bool
	// cgroups is where the cgroup file systems are mounted.
	cgroups string
	// swap says that memory and swap can be limited together.
	swap bool
	// apparmor says that AppArmor is in force.
	apparmor bool
	// selinux says that SELinux is in force.
	selinux bool
	// noX32 says that the kernel has no x32 system calls, so that no seccomp
	// filter needs to tell which of them are allowed.
	noX32 bool
	// nofile is the most open files that a container can be given.
	nofile uint64
}

// detectHost looks below root, "/" but for tests.
func detectHost(root string) host {
	h := host{cgroups: filepath.Join(root, "sys/fs/cgroup")}
	exists := func(path string) bool {
		_, err := os.Stat(filepath.Join(root, path))
		return err == nil
	}
	var fs unix.Statfs_t
	h.unified = unix.Statfs(h.cgroups, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
	if h.unified {
		// The root cgroup has no memory files; any slice below tells.
		slices, _ := filepath.Glob(filepath.Join(h.cgroups, "*", "memory.swap.max"))
		h.swap = len(slices) > 0
	} else {
		h.swap = exists("sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
	}
	enabled, err := os.ReadFile(filepath.Join(root, "sys/module/apparmor/parameters/enabled"))
	h.apparmor = err == nil && strings.HasPrefix(string(enabled), "Y") && exists("sys/kernel/security/apparmor")
	h.selinux = exists("sys/fs/selinux/enforce")
	h.noX32 = strings.Contains(kernelConfig(root), "\n# CONFIG_X86_X32_ABI is not set\n")
	h.nofile = maxNofile()
	return h
}

// kernelConfig is what the kernel was built with, "" where nothing says so.
func kernelConfig(root string) string {
	release, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/osrelease"))
	if err == nil {
		text, err := os.ReadFile(filepath.Join(root, "boot", "config-"+strings.TrimSpace(string(release))))
		if err == nil {
			return string(text)
		}
	}
	packed, err := os.Open(filepath.Join(root, "proc/config.gz"))
	if err != nil {
		return ""
	}
	defer func() { _ = packed.Close() }() // Nothing was written.
	z, err := gzip.NewReader(packed)
	if err != nil {
		return ""
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return ""
	}
	return string(text)
}

// maxNofile is our own hard limit, or no limit where whoever makes containers may raise it.
func maxNofile() uint64 {
	caps, err := allCaps()
	if err == nil && slices.Contains(caps, "CAP_SYS_RESOURCE") {
		return math.MaxUint64
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nofileHard
	}
	return limit.Max
}
