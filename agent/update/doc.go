// Package update replaces this program by another version of it, and takes that back when the other one is no good.
//
//	fetch metadata ─► verify ─► fetch program ─► verify ─► versions/<v>/berth ─► try it
//	                                                                              │
//	           ┌── Confirmed ◄── the gate opens ◄── started by systemd ◄── Switched: current ─► versions/<v>
//	           │                                        │
//	           └── Returned  ◄── the gate stays shut, or the guard has counted enough: current ─► versions/<old>
//
// # On the disk
//
//	/usr/lib/berth/root.json                  whom releases are believed from; comes with the package
//	/usr/lib/berth/versions/<v>/berth         the programs that there are
//	/usr/lib/berth/current  -> versions/<v>   the one that is started; /usr/bin/berth leads through it
//	/usr/lib/berth/previous -> versions/<v>   the one that a bad update returns to
//	/var/lib/berth/update/record.json         the last update: a Record
//	/var/lib/berth/update/tuf/                the newest metadata that was believed
//
// current is replaced by renaming a symbolic link over it, so there is no moment without a program, and a program that was killed at any
// instruction finds either the old or the new. The Record is written before the switch and says what it is for, so whoever comes next
// (the new program, the old one, the guard) knows where things stand.
//
// # Who watches the new program
//
// The new program itself, while it can: its gate (Gate) opens once containerd answers, every task that ran is adopted, ACS is connected,
// metrics flow and the log process is of the same version. If that takes too long it goes back by itself. A program that cannot even
// start cannot do that; so berth.service has the previous one look on (Guard), before each start and after each stop:
//
//	ExecStartPre=-/usr/lib/berth/previous/berth update --guard start
//	ExecStopPost=-/usr/lib/berth/previous/berth update --guard stop
//
// It counts starts that came to nothing and puts current back. systemd resolves ExecStart afterwards, so that very start is the old
// program's.
//
// # What is believed: the threat model
//
// The attacker may own the mirror, the network between, and the control plane's messages; not the signing keys up to their threshold, not
// root on this host, not its clock. Metadata is that of The Update Framework (TUF), read by go-tuf. Each line has a test of its name in
// attacks_test.go:
//
//   - Arbitrary software: a program or metadata without the threshold of signatures is refused, and nothing of it is ever executed.
//   - Threshold: one stolen key of a role that needs two signs nothing.
//   - Rollback: metadata older than what was believed before is refused, over restarts too; so is a program older than the one that
//     runs, unless a person on this host asks for it by --to.
//   - Freeze: metadata that has expired is refused, so a mirror cannot hide new releases for longer than that.
//   - Mix and match: metadata of different releases does not go together; the snapshot names the version of each.
//   - Fast forward: whoever stole the keys of snapshot and timestamp can number his metadata so high that nothing honest would ever be
//     newer. Once the root names other keys, hosts forget those numbers.
//   - Endless data: nothing is read beyond what signed metadata says is its length, or a small bound where nothing is signed yet.
//   - Slow data: all metadata has a minute, a program fifteen. What was fetched until then is thrown away.
//   - Arbitrary file: neither signed names nor links in a directory lead to a file outside of the source or of versions/.
//   - Wrong software: a program for another platform or of another version than its name says is not switched to.
//   - Wrong root: a root that the one before it has not signed, that leaves one out, or that has expired is not followed; without a root
//     from the package or the settings nothing is believed at all.
//   - Stolen root keys: a new root signed by the old one's threshold takes over, and the old keys are worth nothing from then on.
//   - Key rotation taken back: a root older than the newest believed is not accepted again.
//   - A control plane that says where to fetch: ECS's messages name a place and a hash. The place is never fetched from; the hash
//     at most chooses among signed releases (agent/docs/decisions/0014).
//
// What is outside: an attacker who is root here has won already; a threshold of stolen keys too, until the root says otherwise; and
// somebody who keeps the mirror from answering keeps the update away, which berth update --check says.
package update
