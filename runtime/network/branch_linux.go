package network

import (
	"bytes"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// CanBranch reports whether this kernel has VLANs, built in or as a module that is loaded when it is needed, and so can
// make branch interfaces.
func CanBranch() bool {
	if _, err := os.Stat("/proc/net/vlan"); err == nil {
		return true
	}
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	return hasModule(filepath.Join("/lib/modules", unix.ByteSliceToString(name.Release[:])), "8021q")
}

// hasModule reports whether a kernel's modules, in their directory, include one.
func hasModule(dir, module string) bool {
	for _, list := range []string{"modules.builtin", "modules.dep"} {
		content, err := os.ReadFile(filepath.Join(dir, list))
		if err == nil && bytes.Contains(content, []byte("/"+module+".ko")) {
			return true
		}
	}
	return false
}
