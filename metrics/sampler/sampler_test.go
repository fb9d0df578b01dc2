package sampler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/berthd/berth/metrics"
)

const period = time.Second

// host is a fake kernel: cgroups and namespaces that use CPU and receive bytes at a steady rate, and that come and go.
type host struct {
	mu       sync.Mutex // guards everything
	start    time.Time
	cgroups  map[string]fakeCgroup
	netns    map[string]uint64 // path to inode
	broken   map[string]error
	opened   int // sources open now
	attempts map[string]int
	reads    map[string]int
}

type fakeCgroup struct {
	id   uint64
	rate float64 // processors in use
	born time.Time
}

func newHost() *host {
	return &host{
		start: time.Now(), cgroups: make(map[string]fakeCgroup), netns: make(map[string]uint64),
		broken: make(map[string]error), attempts: make(map[string]int), reads: make(map[string]int),
	}
}

func (h *host) set(path string, id uint64, rate float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cgroups[path] = fakeCgroup{id: id, rate: rate, born: time.Now()}
}

func (h *host) remove(path string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.cgroups, path)
	delete(h.netns, path)
}

func (h *host) fail(path string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken[path] = err
}

// count runs f with the lock held.
func (h *host) count(f func() int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return f()
}

func (h *host) config() Config {
	return Config{Open: h.open, OpenNetwork: h.openNetwork, CPUs: 4, Period: period}
}

func (h *host) open(path string) (Source, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attempts[path]++
	c, ok := h.cgroups[path]
	if !ok {
		return nil, fmt.Errorf("cannot open %s: %w", path, metrics.ErrGone)
	}
	h.opened++
	return &source{host: h, path: path, id: c.id}, nil
}

func (h *host) openNetwork(path string, _ metrics.Links) (NetworkSource, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attempts[path]++
	id, ok := h.netns[path]
	if !ok {
		return nil, metrics.ErrGone
	}
	h.opened++
	return &netSource{host: h, path: path, id: id}, nil
}

// source is one fake cgroup held open. Like a real one it is dead once the cgroup is removed, even if there is a new one.
type source struct {
	host *host
	path string
	id   uint64
}

func (f *source) Read(s *metrics.Sample) error {
	f.host.mu.Lock()
	defer f.host.mu.Unlock()
	f.host.reads[f.path]++
	if err := f.host.broken[f.path]; err != nil {
		return err
	}
	c, ok := f.host.cgroups[f.path]
	if !ok || c.id != f.id {
		return metrics.ErrGone
	}
	s.CgroupID, s.Version = c.id, metrics.V2
	s.CPU.Usage = uint64(c.rate * float64(time.Since(c.born)))
	s.Memory.Usage = 10 << 20
	return nil
}

func (f *source) Detail() (metrics.Detail, error) {
	return metrics.Detail{MemoryStat: map[string]uint64{"anon": f.id}}, nil
}

func (f *source) Close() error { return f.host.closed() }

type netSource struct {
	host *host
	path string
	id   uint64
}

func (f *netSource) Read() (*metrics.Network, error) {
	f.host.mu.Lock()
	defer f.host.mu.Unlock()
	f.host.reads[f.path]++
	if f.host.netns[f.path] != f.id {
		return nil, metrics.ErrGone
	}
	return &metrics.Network{ID: f.id, Total: metrics.Traffic{RxBytes: 100 * uint64(time.Since(f.host.start)/time.Second)}}, nil
}

func (f *netSource) Close() error { return f.host.closed() }

func (h *host) closed() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opened--
	return nil
}

func target(id string) Target {
	return Target{Container: metrics.Container{ID: id, Name: "name-" + id, TaskARN: "arn:aws:ecs:eu-west-1:1:task/c/t1"}, Cgroup: "/" + id}
}

// run starts the sampler and returns what ends it. It must be called in a bubble.
func run(t *testing.T, s *Sampler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1) // the one result, kept if nobody waits
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel(errors.New("test ends"))
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	}
}

// rest lets virtual time pass.
func rest(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func TestCollect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.set("/a", 1, 1)   // one of four processors
		h.set("/b", 2, 0.5) // half of one
		h.set("/t", 3, 1.5)
		h.netns["/ns"] = 9
		s := New(h.config())
		if got, tracked := s.Collect(); len(got) != 0 || tracked != 0 {
			t.Errorf("collected %v of %d before anything is tracked", got, tracked)
		}
		b := target("b")
		b.Netns, b.RestartPolicy = "/ns", true
		s.Track(b) // before Run
		stop := run(t, s)
		defer stop()
		s.Track(target("a"))
		whole := target("t")
		whole.Container.Name = ""
		s.Track(whole)
		if got, tracked := s.Collect(); len(got) != 0 || tracked != 2 {
			t.Errorf("collected %v of %d before the first round", got, tracked)
		}

		rest(20 * period)
		first, tracked := s.Collect()
		if tracked != 2 || len(first) != 2 || first[0].Container.ID != "a" || first[1].Container.ID != "b" {
			t.Fatalf("collected %+v of %d, want a and b and not the whole task", first, tracked)
		}
		a, bb := first[0], first[1]
		if c := a.Report.CPUPercent; !near(c.Min, 25) || !near(c.Max, 25) || c.SampleCount != 19 || a.Report.MemoryMiB.SampleCount != 20 {
			t.Errorf("a used %+v, memory %+v", c, a.Report.MemoryMiB)
		}
		if c := bb.Report.CPUPercent; !near(c.Average(), 12.5) || a.RestartPolicy || !bb.RestartPolicy {
			t.Errorf("b used %+v", c)
		}
		if a.Report.Network != nil {
			t.Error("a has no namespace, and yet traffic")
		}
		if n := bb.Report.Network; n == nil || n.RxBytes.SampleCount != 20 || !near(n.RxBytesPerSecond.Average(), 100) {
			t.Errorf("b received %+v", n)
		}

		if again, _ := s.Collect(); len(again) != 0 {
			t.Errorf("the same samples were reported twice: %+v", again)
		}
		rest(20 * period)
		if second, _ := s.Collect(); len(second) != 2 || second[0].Report.CPUPercent.SampleCount != 20 {
			t.Errorf("then collected %+v", second)
		}
	})
}

func near(a, b float64) bool { return a-b < 1e-6 && b-a < 1e-6 }

func TestLatestAndSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.set("/a", 1, 1)
		c := h.config()
		c.HostCPU = func() (uint64, error) { return uint64(4 * time.Since(h.start)), nil }
		s := New(c)
		stop := run(t, s)
		defer stop()
		if _, ok := s.Latest("a"); ok {
			t.Error("there is a reading of an unknown container")
		}
		s.Track(target("a"))
		if r, ok := s.Latest("a"); !ok || !r.Sample.Time.IsZero() || r.Rates.Known {
			t.Errorf("before the first round: %+v, %v", r, ok)
		}
		if got := s.Snapshot(); len(got) != 0 {
			t.Errorf("snapshot before the first round: %+v", got)
		}
		rest(3 * period)
		r, ok := s.Latest("a")
		if !ok || !r.Rates.Known || !near(r.Rates.CPUPercent, 25) || r.CPUs != 4 {
			t.Errorf("reading %+v, %v", r, ok)
		}
		if r.Sample.Time.Sub(r.Previous.Time) != period {
			t.Errorf("samples at %v and %v", r.Previous.Time, r.Sample.Time)
		}
		if got := r.Sample.CPU.HostUsage - r.Previous.CPU.HostUsage; got != 4e9 {
			t.Errorf("the host used %d ns in a second", got)
		}
		if got := s.Snapshot(); len(got) != 1 || got[0].Container.ID != "a" {
			t.Errorf("snapshot %+v", got)
		}
		d, err := s.Detail("a")
		if err != nil || d.MemoryStat["anon"] != 1 {
			t.Errorf("detail %+v, %v", d, err)
		}
		if _, err := s.Detail("b"); !errors.Is(err, ErrNotTracked) {
			t.Errorf("detail of an unknown container: %v", err)
		}
		s.Untrack("a")
		s.Untrack("a")
		if _, ok := s.Latest("a"); ok || h.count(func() int { return h.opened }) != 0 {
			t.Error("untracked, but still there")
		}
	})
}

func TestStartIsJitteredAndRoundsAreSteady(t *testing.T) {
	starts := make(map[time.Duration]bool)
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			h := newHost()
			h.set("/a", 1, 1)
			s := New(h.config())
			s.Track(target("a"))
			stop := run(t, s)
			defer stop()
			rest(10 * period)
			r, _ := s.Latest("a")
			sinceStart := r.Sample.Time.Sub(h.start)
			first := sinceStart % period
			starts[first] = true
			if rounds := s.Overhead().Rounds; rounds != 10 || sinceStart < 9*period {
				t.Errorf("%d rounds in ten periods, the last after %v", rounds, sinceStart)
			}
		})
	}
	if len(starts) < 10 {
		t.Errorf("20 samplers started at only %d different moments", len(starts))
	}
}

func TestRestartUnderTheSameName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.set("/a", 1, 1)
		s := New(h.config())
		stop := run(t, s)
		defer stop()
		a := target("a")
		a.RestartPolicy = true
		s.Track(a)
		rest(5 * period)
		before, _ := s.Latest("a")
		base, ok := s.Reached("a")
		if !ok || base.CPU.Usage != before.Sample.CPU.Usage {
			t.Errorf("base %+v, %v between two lives, want the %d ns of the first", base.CPU, ok, before.Sample.CPU.Usage)
		}

		rest(3 * period) // What the first still does is in nobody's base.
		if late, ok := s.Reached("a"); !ok || late.CPU.Usage != base.CPU.Usage {
			t.Errorf("reached %d ns once it had been told that it was %d", late.CPU.Usage, base.CPU.Usage)
		}

		h.remove("/a")
		h.set("/a", 2, 1)
		a.StartedAt, a.Restarts = time.Now(), 1
		s.Track(a)
		rest(4 * period)
		after, _ := s.Latest("a")
		if after.Sample.CgroupID != 2 || after.Restarts != 1 || after.Sample.CPU.Usage < before.Sample.CPU.Usage {
			t.Errorf("before %+v, after %+v", before.Sample.CPU, after.Sample.CPU)
		}
		reports, _ := s.Collect()
		if len(reports) != 1 || reports[0].Report.Restarts != 1 || reports[0].Report.CPUPercent.Max > 26 {
			t.Errorf("reported %+v", reports)
		}

		// An agent that comes later goes on from the base.
		next := New(h.config())
		a.Base = base
		next.Track(a)
		stopNext := run(t, next)
		defer stopNext()
		rest(2 * period)
		if r, _ := next.Latest("a"); r.Sample.CPU.Usage <= base.CPU.Usage {
			t.Errorf("the next agent counts from %d, base %d", r.Sample.CPU.Usage, base.CPU.Usage)
		}
	})
}

func TestACgroupThatComesBackIsFoundWithoutBeingTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		logger, logs := watch()
		c := h.config()
		c.Log = logger
		s := New(c)
		stop := run(t, s)
		defer stop()
		s.Track(target("a")) // not there yet
		rest(100 * period)
		attempts := h.count(func() int { return h.attempts["/a"] })
		if attempts < 8 || attempts > 15 {
			t.Errorf("%d attempts in 100 rounds, want them ever more rarely", attempts)
		}
		h.set("/a", 1, 1)
		rest(maxWait * period)
		if r, _ := s.Latest("a"); r.Sample.Time.IsZero() {
			t.Error("not found when it came")
		}
		h.remove("/a")
		rest(2 * period)
		if opened := h.count(func() int { return h.opened }); opened != 0 {
			t.Errorf("%d sources open of a removed cgroup", opened)
		}
		if _, err := s.Detail("a"); !errors.Is(err, metrics.ErrGone) {
			t.Errorf("detail of a removed cgroup: %v", err)
		}
		h.set("/a", 2, 1)
		rest(4 * period)
		if r, _ := s.Latest("a"); r.Sample.CgroupID != 2 {
			t.Errorf("still at cgroup %d", r.Sample.CgroupID)
		}
		if logs.Len() != 0 {
			t.Errorf("everyday life was logged: %v", logs.All())
		}
	})
}

func watch() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.DebugLevel)
	return zap.New(core), logs
}

func TestAFailureIsLoggedOnceEachTimeItBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		logger, logs := watch()
		h.set("/a", 1, 1)
		h.set("/b", 2, 1)
		c := h.config()
		c.Log = logger
		s := New(c)
		stop := run(t, s)
		defer stop()
		s.Track(target("a"))
		s.Track(target("b"))
		rest(3 * period)
		h.fail("/a", errors.New("input/output error"))
		rest(60 * period)
		if got := logs.Len(); got != 1 {
			t.Errorf("%d log lines for one failure", got)
		}
		if r, _ := s.Latest("b"); time.Since(r.Sample.Time) > period {
			t.Errorf("the other container was last read %v ago", time.Since(r.Sample.Time))
		}
		h.fail("/a", nil)
		rest(maxWait * period)
		if r, _ := s.Latest("a"); time.Since(r.Sample.Time) > period {
			t.Error("not read again after the failure")
		}
		h.fail("/a", errors.New("input/output error"))
		rest(10 * period)
		if got := logs.Len(); got != 2 {
			t.Errorf("%d log lines for two failures", got)
		}
	})
}

func TestANamespaceIsReadOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.netns["/ns"] = 9
		s := New(h.config())
		stop := run(t, s)
		for _, id := range []string{"a", "b", "c"} {
			h.set("/"+id, 1, 1)
			c := target(id)
			c.Netns, c.Links = "/ns", metrics.DeviceLinks
			s.Track(c)
		}
		rest(10 * period)
		if reads := h.count(func() int { return h.reads["/ns"] }); reads != 10 {
			t.Errorf("%d readings of the namespace in 10 rounds", reads)
		}
		all := s.Snapshot()
		if len(all) != 3 || all[0].Sample.Network == nil || all[0].Sample.Network != all[2].Sample.Network {
			t.Errorf("not the same network for all: %+v", all)
		}
		s.Untrack("a")
		s.Untrack("b")
		if opened := h.count(func() int { return h.opened }); opened != 2 {
			t.Errorf("%d open, want c and its namespace", opened)
		}
		s.Untrack("c")
		if opened := h.count(func() int { return h.opened }); opened != 0 {
			t.Errorf("%d open, want none: an open socket keeps a namespace", opened)
		}
		stop()
	})
}

func TestANamespaceThatGoesTakesNothingElseAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.set("/a", 1, 1)
		h.netns["/ns"] = 9
		s := New(h.config())
		stop := run(t, s)
		defer stop()
		a := target("a")
		a.Netns = "/ns"
		s.Track(a)
		rest(5 * period)
		h.remove("/ns")
		rest(5 * period)
		r, _ := s.Latest("a")
		if r.Sample.Network != nil || time.Since(r.Sample.Time) > period {
			t.Errorf("read %+v", r.Sample)
		}
	})
}

func TestRunEndsWithEverythingClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		s := New(h.config())
		for i := range 5 {
			h.set(fmt.Sprintf("/%d", i), 1, 1)
			s.Track(target(fmt.Sprint(i)))
		}
		stop := run(t, s)
		rest(2 * period)
		stop()
		if opened := h.count(func() int { return h.opened }); opened != 0 {
			t.Errorf("%d sources open after Run", opened)
		}
		// Still answering, without a loop.
		if got := s.Snapshot(); len(got) != 5 {
			t.Errorf("%d readings after Run", len(got))
		}
		if o := s.Overhead(); o.Tracked != 5 || o.Rounds != 2 || o.Dropped != 0 {
			t.Errorf("overhead %+v", o)
		}

		early := New(h.config())
		run(t, early)() // ends before the first round
	})
}

// TestUntrackedInTheMiddleOfARound looks at a target that a round still has before it when it is untracked.
func TestUntrackedInTheMiddleOfARound(t *testing.T) {
	h := newHost()
	h.set("/a", 1, 1)
	s := New(h.config())
	s.Track(target("a"))
	ahead := s.order
	s.Untrack("a")
	for _, e := range ahead {
		s.read(e, 1)
	}
	if opened := h.count(func() int { return h.opened }); opened != 0 {
		t.Errorf("%d sources were opened that nobody will close", opened)
	}
}

func TestSnapshotIsOrdered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		s := New(h.config())
		stop := run(t, s)
		defer stop()
		for _, id := range []string{"c", "a", "d", "b"} {
			h.set("/"+id, 1, 1)
			c := target(id)
			if id == "a" || id == "c" {
				c.Container.TaskARN += "0"
			}
			s.Track(c)
		}
		rest(2 * period)
		var ids []string
		for _, r := range s.Snapshot() {
			ids = append(ids, r.Container.ID)
		}
		if want := []string{"b", "d", "a", "c"}; !slices.Equal(ids, want) {
			t.Errorf("order %v, want %v", ids, want)
		}
	})
}

// TestManyAtOnce lets everybody call at the same time, for the race detector.
func TestManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		c := h.config()
		c.Period = time.Millisecond
		s := New(c)
		stop := run(t, s)
		var all sync.WaitGroup
		for worker := range 8 {
			all.Go(func() {
				for i := range 50 {
					id := fmt.Sprint(i % 10)
					h.set("/"+id, uint64(i), 1)
					s.Track(target(id))
					s.Latest(id)
					s.Snapshot()
					s.Collect()
					_, _ = s.Detail(id)
					s.Overhead()
					<-time.NewTimer(time.Millisecond).C
					if worker%2 == 0 {
						s.Untrack(id)
					}
				}
			})
		}
		all.Wait()
		for i := range 10 {
			s.Untrack(fmt.Sprint(i))
		}
		stop()
		if opened := h.count(func() int { return h.opened }); opened != 0 {
			t.Errorf("%d sources are still open", opened)
		}
	})
}
