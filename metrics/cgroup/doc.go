// Package cgroup reads what containers use from cgroup files, versions 1 and 2.
//
// A Reader belongs to one container or one task. It holds the files that it reads each second open and reads them with pread into
// one buffer, so that a reading costs a handful of system calls and no allocation. Files whose content hardly changes (limits,
// peaks, pressure) are opened, read and closed on every tenth reading only. A file that the kernel does not have is left out and
// its figure is zero: controllers may be missing, alone or together.
//
// Where the hierarchies are is a Layout, found by Detect or given by Under. On a hybrid host, where a bare cgroup2 tree stands beside
// the v1 hierarchies, the controllers decide: it is version 1.
package cgroup
