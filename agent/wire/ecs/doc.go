// Package ecs holds the messages of the ECS API as they are on the wire (AWS
// JSON 1.1): the calls an agent makes, the calls users make of `berth local`,
// the shapes they share, and the errors.
//
// A call is POST / with the header X-Amz-Target set to Target plus the name of
// the operation and ContentType as its content type. Every operation X has a
// pair XRequest and XResponse here. Members keep their wire name in the JSON
// tag; those the service leaves out when unset are left out here too. Where
// zero says something else than absent (an exit code, a swap limit) the member
// is a pointer. A nil list is absent, an empty one is sent as []. Unknown
// members are ignored when decoding, because the service adds them freely.
//
// Statuses and enumerations are plain strings, and the constants of this
// package are the words in use: the service may send words that are not known
// yet, and a message must survive them. Translation to the vocabulary of other
// packages happens where a message is received.
//
// The package decodes, encodes and validates. It does no I/O, holds no state,
// and its values may be used at once by many goroutines that only read.
package ecs
