// Package task is the heart of the agent: a task, its containers, and the pure
// state machine that decides what is to be done for them. It does no I/O, reads
// no clock, takes no lock and starts no goroutine.
//
// # Facts in, work out
//
// Apply records a Fact: something that happened. It decides nothing. Next looks
// at all the facts there are and answers with the Work that is called for and
// not under way already. A restart of the agent, a lost event, an exit that is
// seen late and a stop that is asked twice are then all the same case: the facts
// are what they are, and Next answers them.
//
//	fact ──Apply──▶ State ──Next──▶ Persist · Report · Pull · Create · Start · Signal · …
//	  ▲                                                         │
//	  └───────────────────── what came of it ◀──────────────────┘
//
// # A container's phases
//
//	            Pulled            Created           Started            Exited
//	Pending ─────────────▶ Pulled ──────▶ Created ─────────▶ Running ─────────▶ Stopped
//	   │                      │              │                  ▲                  │
//	   └──── a failure, or the task stops ───┴──▶ settled       └── restart policy ┘
//
// A container that never started has no exit and stays in its phase; it counts
// as settled once it is to be stopped and nothing is under way for it. The
// task is STOPPED when each of its containers is settled.
//
// The scripts in testdata are the machine's documentation by example: each line
// "> fact" is followed by the work that Next then calls for.
package task
