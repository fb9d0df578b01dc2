// Package hostapi is how people and programs on the host speak to the agent: an HTTP API on a unix socket, the client of it that the
// command line uses, and the introspection API that ECS hosts have on port 51678.
//
// # The socket
//
// /run/berth/berth.sock, mode 0660, owned by root and the group berth: whoever can open it may do everything, so membership of that
// group is as good as root on this host. Answers are JSON; a stream is JSON lines. The shapes are the exported view types, and they
// only ever grow.
//
//	GET  /v1/status                 StatusView
//	GET  /v1/tasks                  {"tasks": [TaskView…]}
//	GET  /v1/tasks/{task}           TaskView
//	GET  /v1/tasks/{task}/why       {"waits": [Wait…]}: what it waits for, first things first
//	POST /v1/tasks/{task}/stop      202, the stop is under way
//	GET  /v1/stats                  {"containers": [StatsView…]}
//	GET  /v1/events?follow=1        lines of Event, oldest first, at most the last 1000 and then what comes
//	GET  /v1/images                 {"images": [ImageView…]}
//	GET  /v1/pulls                  lines of {"pulls": [PullView…]}, as it changes, until no pull is left; ?follow=1 for ever
//	POST /v1/pull?image=REF         lines of PullView, the last one has "done" or "error"
//	GET  /v1/logs?container=ID      lines of LogLine; &follow=1 &tail=N &since=RFC3339
//	POST /v1/exec                   ExecRequest, answered by 101 and then frames: see frames.go
//	GET  /v1/config                 {"settings": [config.Setting…]}
//
// {task} is an ARN, an id, or enough of the id's beginning. A failure is {"error": {"code", "message", "hint"}} with a fitting HTTP
// status; the codes are the constants of errors.go.
//
// The package asks the rest of the agent through the small interfaces of providers.go. One that is missing answers 501.
package hostapi
