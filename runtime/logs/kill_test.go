package logs

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Killed at any instruction, under a load that leaves it no rest, the log
// process loses no line, doubles none and tears none.
func TestKilledAtAnyInstruction(t *testing.T) {
	h := newHost(t, "0")
	c := Container{ID: "c1", Options: map[string]string{"max-size": "1m", "max-file": "500", "compress": "true"}}
	stdout, stderr := h.open(c)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, errStopped)
	defer cancel()
	var writers sync.WaitGroup
	counts := make([]int, 2)
	for i, s := range []*shim{stdout, stderr} {
		writers.Go(func() {
			n, worst, err := flow(ctx, s.w, []string{"out", "err"}[i], []int{20000, 7000}[i])
			if err != nil {
				t.Error(err)
			}
			counts[i] = n
			t.Logf("%d lines, longest write %v", n, worst)
		})
	}
	random := rand.New(rand.NewPCG(6, uint64(time.Now().UnixNano())))
	kills := 0
	for ; ctx.Err() == nil; kills++ {
		wait(t, time.Duration(1+random.IntN(30))*time.Millisecond)
		h.signal(unix.SIGKILL)
		if _, err := h.client.Open(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	writers.Wait()
	t.Logf("%d kills", kills)
	h.exit("c1", stdout, stderr)
	lines := h.read(ReadRequest{ID: "c1"})
	sequence(t, lines, "out", counts[0])
	sequence(t, lines, "err", counts[1])
}
