// Package cli is the command line: one binary, `berth`, and a file per verb.
//
// A verb is a function that takes the app and returns a cobra command; verbs.go lists them, so adding one is a file and a line there.
// Verbs about this host ask the agent over its socket (agent/hostapi) and know nothing else about it. Each prints an aligned table
// for people, or with --json the view types of the host API for programs: a list as an array, a stream as one object a line.
//
// Exit codes are a contract, see ExitOK and its neighbours; exec passes the code of its process through.
package cli
