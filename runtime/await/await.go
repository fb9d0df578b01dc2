// Package await has tests wait for what happens by itself: for a word, a state or
// an end, and never for a time. The limit is for what never comes; it is long, as
// a machine that runs tests may be busy, and nobody waits for it in vain.
package await

import (
	"errors"
	"testing"
	"time"
)

const (
	// Patience is how long That and Nil wait.
	Patience = 2 * time.Minute
	// pause is how often they look.
	pause = 5 * time.Millisecond
)

// errNotYet is why That looks again.
var errNotYet = errors.New("it is not so")

// That waits until something is true, and ends the test if it never is; what
// names it. It is not for a bubble of testing/synctest.
func That(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	Nil(tb, what, func() error {
		if is() {
			return nil
		}
		return errNotYet
	})
}

// Nil tries something until there is no error, and ends the test with the last
// one if there always is.
func Nil(tb testing.TB, what string, try func() error) {
	tb.Helper()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for deadline := time.Now().Add(Patience); ; <-tick.C {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("waited in vain for %s: %v", what, err)
		}
	}
}
