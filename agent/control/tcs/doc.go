// Package tcs is the agent's side of the telemetry service: every twenty
// seconds it makes messages of what the containers used and how they are
// (spec/control-plane.md §5), and keeps the session over which they are sent.
//
//	Metrics ─┐                 queue of 15
//	Health  ─┼─▶ publisher ─▶ ┄┄┄┄┄┄┄┄┄┄┄┄ ─▶ sender ─▶ sign ─▶ websocket
//	Status  ─┘
//
// The queue bridges short disconnects. When it stays full for a second the new
// message is dropped: the service takes nothing older than five minutes anyway.
// Each frame is signed when it is sent, with the keys of that moment.
//
// The URL carries no dockerVersion: there is no Docker, and leaving the key out
// is legal.
package tcs
