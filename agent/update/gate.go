package update

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// gateEvery is how often the gate looks.
const gateEvery = 200 * time.Millisecond

// Condition is something that a new version has to show.
type Condition struct {
	Name string
	// Met answers nil when it is so, and otherwise what is missing. It is asked again and again.
	Met func(ctx context.Context) error
}

// Gate waits until every condition is met at once, and answers nil. After the deadline, or once one is hopeless, it answers which were not
// met, and why, by an error that matches ErrGate. When ctx ends first the error matches its cause.
func Gate(ctx context.Context, deadline time.Duration, conditions []Condition) error {
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	ticker := time.NewTicker(gateEvery)
	defer ticker.Stop()
	for {
		var missing []string
		for _, c := range conditions {
			err := c.Met(ctx)
			if errors.Is(err, ErrHopeless) && ctx.Err() == nil {
				return fmt.Errorf("%w: %s: %w", ErrGate, c.Name, err)
			}
			if err != nil {
				missing = append(missing, c.Name+": "+err.Error())
			}
		}
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			return fmt.Errorf("%w within %s: %s", ErrGate, deadline, strings.Join(missing, "; "))
		case <-ticker.C:
		}
	}
}

var (
	// ErrGate: a new version did not show what it has to.
	ErrGate = errors.New("it did not prove itself")
	// ErrHopeless is what a condition matches when waiting for it does harm and no good.
	ErrHopeless = errors.New("there is no waiting for it")
)
