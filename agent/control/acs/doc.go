// Package acs is the agent's side of the agent communication service: it keeps
// the session (Client), hands tasks to whoever runs them (Tasks), and answers
// what the service wants answered (spec/control-plane.md §4).
//
//	frame ──▶ wire/acs ──▶ Client ──▶ convert ──▶ task.Definition ──▶ Tasks
//	                          │                                        │ durable
//	                          └──────────── acks ◀─────────────────────┘
//
// Messages are handled one at a time, in the order they come; acks are written
// by a goroutine of their own.
//
// # What a payload becomes
//
// A task comes in two languages at once: members of ECS's own, and two JSON
// documents of Docker's (config and hostConfig) in which most settings are.
// convert fills in what the members say, decodes the documents over it so that
// their keys win, and then forces what is the agent's to decide (labels, task
// namespaces, log settings): spec/task-engine.md §5.1. What Berth cannot do yet
// is an UnsupportedError that names the member. Such a task is reported STOPPED
// with the reason; it never half runs.
//
// # Who we say we are
//
// The URL's dockerVersion is the bare word "containerd" by default: it is the
// truth, it is a value the service's own agents know, and it cannot be taken for
// an ancient Docker as "DockerVersion: 1.6.20" could. Config.RuntimeVersion
// changes it. Update messages, which that word is meant to keep away, are
// refused with a NackRequest all the same.
package acs
