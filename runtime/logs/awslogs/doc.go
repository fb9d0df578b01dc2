// Package awslogs is the log driver awslogs: it takes lines to Amazon CloudWatch
// Logs, by JSON 1.1 over HTTPS, signed here (spec/task-engine.md §5.10).
//
// What the service is down for waits in the queue of runtime/logs, so nothing here
// remembers a line: Write returns when the service has what it took. The stream,
// and with awslogs-create-group the group, are made by the first call that needs
// them; a group that does not exist is no reason not to start the container, as
// it is with Docker, but stands in its log's status until somebody makes it.
//
// Keys come from the agent (credentials.go) when the option
// awslogs-credentials-endpoint names the task's execution role, and are gone on
// with while the agent is away; else they are the host's own. A role's keys are in
// memory only, and where the container's directory is too (as /run is) they
// outlive the log process there: ECS does not send those of a stopped task again
// to an agent that was killed as well.
package awslogs
