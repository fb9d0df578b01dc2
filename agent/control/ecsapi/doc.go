// Package ecsapi makes the calls of the ECS API that an agent makes: signed
// JSON 1.1 over HTTPS, spec/control-plane.md §1.1.
//
// A call is tried three times, as the AWS SDKs do: again after a connection that
// failed, a status that says the service is in trouble, and throttling, with
// growing pauses and a budget of retries that all calls share. The submissions
// are retried without end by the outbox, above, and so need no more here.
//
// Errors that the service answered match *ecs.Error of agent/wire/ecs, and with
// it errors.Is(err, &ecs.Error{Type: ecs.ErrTypeInvalidParameter}). Those that
// trying again later can mend match ErrTransient.
package ecsapi
