package acs

import "fmt"

// SetUpError says that a task was read and can never be set up. ECS shows Reason
// as it stands, and the payload counts as taken (spec/task-engine.md §1.7).
type SetUpError struct {
	// Path leads to the member that is at fault.
	Path, Reason string
}

// Error is "path: reason".
func (e *SetUpError) Error() string { return e.Path + ": " + e.Reason }

func setUp(path, format string, args ...any) error {
	return &SetUpError{path, fmt.Sprintf(format, args...)}
}
