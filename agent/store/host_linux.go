package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// lockHolder is the process that has a lock on the file, or 0.
func lockHolder(path string) int {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	return holderOf(string(locks), stat.Ino)
}

// holderOf finds the process that has a flock on the inode in the text of
// /proc/locks, whose lines read
//
//	1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF
//
// The device before the inode is not compared: some file systems show another
// one there than stat does. A line of one that waits has "->" for its kind.
func holderOf(locks string, inode uint64) int {
	suffix := ":" + strconv.FormatUint(inode, 10)
	for line := range strings.Lines(locks) {
		words := strings.Fields(line)
		if len(words) < 6 || words[1] != "FLOCK" || !strings.HasSuffix(words[5], suffix) {
			continue
		}
		if pid, err := strconv.Atoi(words[4]); err == nil && pid > 0 {
			return pid
		}
	}
	return 0
}

// freeText says how much room the file system of path has, for an error about a
// write.
func freeText(path string) string {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &stat); err != nil {
		return "free space unknown"
	}
	return fmt.Sprintf("%d bytes free", stat.Bavail*uint64(stat.Bsize))
}
