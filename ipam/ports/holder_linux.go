package ports

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/berthd/berth/ipam"
)

// Holder looks in /proc for the process that has a port. It is for a message, so it gives up quietly: the process may
// have gone, or be one that we may not look into.
func (HostBinder) Holder(protocol ipam.Protocol, number uint16) Process {
	for _, table := range []string{string(protocol) + "6", string(protocol)} {
		for _, inode := range inodes("/proc/thread-self/net/"+table, number) {
			if p := processWith(inode); p != (Process{}) {
				return p
			}
		}
	}
	return Process{}
}

// inodes returns the sockets that a table of /proc/net lists with a local port. A line is
// "sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …", addresses in hex with the port behind
// the last colon.
func inodes(table string, number uint16) []string {
	f, err := os.Open(table)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }() // only read
	want := fmt.Sprintf(":%04X", number)
	var found []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && strings.HasSuffix(fields[1], want) && fields[9] != "0" {
			found = append(found, fields[9])
		}
	}
	return found
}

func processWith(inode string) Process {
	want := "socket:[" + inode + "]"
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return Process{}
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || target != want {
			continue
		}
		dir := strings.TrimPrefix(fd, "/proc/")
		dir, _, _ = strings.Cut(dir, "/")
		pid, err := strconv.Atoi(dir)
		if err != nil {
			continue
		}
		name, err := os.ReadFile("/proc/" + dir + "/comm")
		if err != nil {
			continue
		}
		return Process{PID: pid, Name: strings.TrimSpace(string(name))}
	}
	return Process{}
}
