// Package logs carries the output of containers to their log drivers, through
// one small process per host that is not the agent, and reads it back.
//
//	container ─ shim ─► FIFO ─► log process ─► driver ─► <data>/<id>/json.log
//	                     ▲           ▲                         │
//	             Client.Open    unix socket                  Read
//	                     └── agent ──┘                  (berth logs -f)
//
// The agent makes a directory per container with the FIFOs and a config.json
// (Client.Open) and asks the log process to adopt it. The directory is the
// truth: a log process that starts adopts every directory it finds, whoever
// was killed in between. The agent may come and go as it likes.
//
// # What survives what
//
//   - Agent killed: nothing happens; the log process reads on.
//   - Log process stopped or killed -9: what it had read and not yet written
//     lies in a spool, a mapped file in the container's directory, and the
//     driver's position is committed there with it. The next process starts
//     from that: with json-file no line is lost, doubled or torn. Until it
//     comes, writers have a pipe of 1 MiB to fill before they wait. A
//     container that exits meanwhile leaves its last output in the pipe, which
//     the agent holds open too.
//   - Both killed, and the container exits before either is back: what is in
//     the pipe (at most 1 MiB per stream) goes with it.
//   - Host crash: what the kernel had not yet written to disk.
//   - Disk full: the log process tries again until there is room; meanwhile
//     the pipe fills and the writer waits (mode=blocking) or lines are dropped
//     and counted (mode=non-blocking).
//
// The package imports little: the size of the log process matters.
package logs
