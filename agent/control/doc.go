// Package control joins this host to a cluster and keeps it there: it registers
// (Join), finds the websockets' addresses (Endpoints), keeps the sessions going
// (Run, Link), and sends what happened to tasks (Reporter).
//
//	Join ──▶ Identity ──▶ Endpoints ──┬─▶ control/acs   tasks come in
//	                                  └─▶ control/tcs   usage and health go out
//	outbox ──▶ Reporter ──▶ control/ecsapi              state changes go out
//
// It is a conductor: it declares the small interfaces it needs, and imports
// words only. Nothing in here ends a task: when the service is away, refuses
// this host, or forgets it, what runs goes on running.
package control
