// Package engine carries out what the task machine calls for.
//
// Each task has one goroutine, its runner. It takes a fact, applies it, writes
// the task's record down together with the reports that follow from it, and only
// then begins the work that Next called for. Work is done in goroutines of its
// own, and what came of it is the next fact:
//
//	payload, events, reconcile, timers, results of work
//	                    │ facts
//	                    ▼
//	  inbox ─▶ runner: Apply ─▶ Next ─▶ Commit (record + outbox) ─▶ dispatch ─▶ pull, create, start, …
//	                    ▲                                                         │
//	                    └─────────────────────────────────────────────────────────┘
//
// containerd is the truth about containers, the store is the truth about what
// ECS asked and was told. Restore brings the two together before anything is
// started, and the reconcile loop keeps comparing them: an event of the runtime
// is a hint to look, never the only source.
//
// The engine names what it needs (Network, Cgroups, Logs, Store) and knows
// neither the wire nor containerd.
package engine
