// Package logs carries the output of containers to their log drivers, through
// one small process per host that is not the agent, and reads it back.
//
//	container ─ shim ─► FIFO ─► worker ─┬─► local driver ───► <data>/<id>/json.log
//	                     ▲              └─► queue of files ─► shipper ─► remote driver
//	             Client.Open    unix socket      │
//	                     └── agent ──┘         Read (berth logs -f)
//
// The agent makes a directory per container with the FIFOs and a config.json
// (Client.Open) and asks the log process to adopt it. The directory is the
// truth: a log process that starts adopts every directory it finds, whoever
// was killed in between. The agent may come and go as it likes. The directory of
// a container with a remote driver is made again when a reboot has taken it.
//
// # Log services that are down
//
// A remote driver never meets the container. Its lines go to a queue of files
// first, which is the copy that Read reads as well, and a shipper of the
// container's own takes them on, in order, for as long as it needs: also after
// the container's end, and after a restart of the log process, until Remove. A
// line is delivered at least once; a process that is killed between a delivery
// and the note of it delivers that batch again.
//
// At most ServerConfig.QueueLimit bytes of a container's lines wait. Beyond
// that, with mode=blocking the writer waits, and with mode=non-blocking the
// newest lines are dropped, counted and told of once in a while. max-buffer-size
// bounds the memory that mode=non-blocking takes while the disk itself does not
// keep up. Of what was delivered, the options cache-max-size and cache-max-file
// say how much is kept to be read; cache-disabled keeps no more than it must.
//
// # Secret options
//
// Options such as splunk-token reach the log process over its socket and are in
// memory only: its own, and a file beside the pipes if that directory is a tmpfs,
// as /run is (it is the log process's memory that outlives it). Where it is not,
// the agent brings them to a log process that was started anew. Until it does,
// lines wait on disk like those for a service that is down.
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
//   - Host crash: what the kernel had not yet written to disk. After a reboot
//     the lines that waited can be read, and are delivered, but those of drivers
//     with secret options, which went with the reboot.
//   - Disk full: the log process tries again until there is room; meanwhile
//     the pipe fills and the writer waits (mode=blocking) or lines are dropped
//     and counted (mode=non-blocking).
//
// # Adding a driver
//
// Write a Factory and a Driver in a file of its own and list it in builtin; in a
// package of its own, handed in by ServerConfig.Drivers, if it needs a library.
// Say Remote. Check the values of options in Factory.Check, naming the option and
// what it may be, and touch nothing outside for it. Connect in the first Write.
// Write answers with how many entries the far end has, and with an error that
// says why it has not more; when to try again is the shipper's business. What the
// far end will never take is passed over by DriverConfig.Rejected, or it would
// stand in the way for ever. Factory.Batch asks for larger batches, for long
// lines in one piece, or for lines joined. Options holds the secret ones: they
// must not reach a log or an error.
//
// The package imports little: the size of the log process matters.
package logs
