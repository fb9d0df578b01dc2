// Package firelens writes the configuration of a task's log router: Fluent Bit
// or Fluentd, told where the task's containers send their lines and where these
// go from there (spec/task-engine.md §5.11). It makes text and touches nothing.
//
//	app ─ pipe ─► log process ─ unix socket ─► router ─► wherever its outputs lead
//	                                             ▲
//	                     fluent.conf, made here ─┘
//
// A configuration has its sections in a fixed order: inputs, filters that
// include, filters that exclude, what is added to records, the user's own file,
// outputs. Within each, containers come in the order of the task definition, so
// that the same task always gives the same text.
package firelens
