// Package container is the contract between whoever wants containers run and
// whatever runs them. It holds words only: what a container is to be (Spec),
// what it is now (Status), what happened to it (Event), and the Runtime that
// turns the one into the other. It imports the standard library and nothing
// else; runtime/ctrd implements it with containerd, runtime/fakert with a
// script, and runtime/runtimetest is the conformance suite that both pass.
//
// # Life of a container
//
//	         Create            Start             init exits
//	(absent) ------> Created ---------> Running ------------> Stopped
//	    ^               |                  |                     |
//	    |    Remove     |      Remove      |        Remove       |
//	    +---------------+------------------+---------------------+
//
// Every verb is idempotent by the container's ID: a caller that was killed and
// does not remember whether its call went through calls again and gets the same
// answer. A container that was created but never started and one whose init has
// exited both keep their record until Remove, whoever restarts in between.
// Status is read from the runtime each time; events are hints to look and may
// be lost.
package container
