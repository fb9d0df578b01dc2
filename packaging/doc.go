// Package packaging holds no code: it is where the files of the distribution packages are (systemd units, sysusers, tmpfiles), and the
// tests that hold them to the code, so that a path, a verb or an exit code cannot change on one side only.
package packaging
