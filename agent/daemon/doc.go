// Package daemon is the composition root of `berth agent`: it builds every part,
// starts them in order and stops them in reverse. Nothing else in the tree knows
// all the parts; the adapters that let one part speak another's words are here
// too.
//
//	containerd ─▶ network ─▶ log process ─▶ engine (Restore, READY) ─▶ host API ─▶ metrics ─▶ ECS
//
// Each part is a run(ctx) error. The first to return ends the rest, and its
// error is why.
package daemon
