// Package task is the heart: a task, its containers, and the pure state machine
// that decides what is to be done for them.
package task
