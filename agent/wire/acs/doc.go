// Package acs holds the messages of the agent communication service (ACS) as
// they are on the wire: spec/control-plane.md §4. It is words only; who sends
// what, and when, is in agent/control/acs for the agent's side and in
// agent/localcluster for the service's.
//
// Every frame is one JSON object, in both directions:
//
//	{"type":"HeartbeatMessage","message":{"messageId":"hb-31","healthy":true}}
//
// Encode and Decode turn frames into messages and back. Members that are not
// set are left out; members that are not known are ignored; a type that is not
// known is an UnknownTypeError, which is worth a warning and nothing more.
//
// A task that cannot be read does not spoil its payload: Decode keeps what it
// could read and says in Task.Malformed, by path, what it could not.
package acs
