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
	random := rand.New(rand.NewPCG(6, uint64(time.Now().UnixNano())))
	kills := underLoad(t, 3*time.Second, func(h *host, c Container) {
		wait(t, time.Duration(1+random.IntN(30))*time.Millisecond)
		h.signal(unix.SIGKILL)
		if _, err := h.client.Open(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("%d kills", kills)
}

// underLoad has a container write to both of its streams without a rest for a
// while, and disturbs it as often as there is time, which it answers with. Every
// line must be there afterwards, once and in order.
func underLoad(t *testing.T, long time.Duration, disturb func(h *host, c Container)) (times int) {
	t.Helper()
	h := newHost(t, "0")
	c := Container{ID: "c1", Options: map[string]string{"max-size": "1m", "max-file": "500", "compress": "true"}}
	stdout, stderr := h.open(c)
	ctx, cancel := context.WithTimeoutCause(t.Context(), long, errStopped)
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
	for ; ctx.Err() == nil; times++ {
		disturb(h, c)
	}
	writers.Wait()
	h.exit("c1", stdout, stderr)
	lines := h.read(ReadRequest{ID: "c1"})
	sequence(t, lines, "out", counts[0])
	sequence(t, lines, "err", counts[1])
	return times
}
