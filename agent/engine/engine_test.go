package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/fakert"
)

// web is a task with one published port.
func web(id string, hostPort uint16) task.Definition {
	return task.Definition{
		ARN: "arn:aws:ecs:eu-west-1:111122223333:task/c/" + id, ID: id, Family: "web", Version: "1", Network: task.NetworkBridge,
		Containers: []task.Container{{
			Name: "web", Image: "registry.test/web:1", Essential: true, Reservation: task.Reservation{CPU: 256, Memory: 128},
			Networking: task.Networking{Ports: []task.PortMapping{{ContainerPort: 80, ContainerPortEnd: 80, HostPort: hostPort, Protocol: "tcp"}}},
		}},
	}
}

// forever are containers that run until they are told to stop.
func forever(container.Spec) fakert.Script { return fakert.Script{} }

// exits are containers that end by themselves.
func exits(code int) func(container.Spec) fakert.Script {
	return func(container.Spec) fakert.Script { return fakert.Script{ExitAfter: time.Minute, ExitCode: code} }
}

func TestLife(t *testing.T) {
	live(t, exits(3), nil, func(t *testing.T, w *world, e *Engine) {
		d := web("a1", 0)
		begin(t, e, d)
		if got := e.Running(); !slices.Equal(got, []string{d.ARN}) {
			t.Errorf("running: %v", got)
		}
		time.Sleep(10 * time.Minute)
		want := []string{"PENDING, web PENDING", "RUNNING, web RUNNING", "STOPPED, web STOPPED exit 3"}
		if diff := cmp.Diff(want, w.reports(d.ARN)); diff != "" {
			t.Error(diff)
		}
		if left := w.remains(t.Context()); left != nil {
			t.Errorf("left on the host: %v", left)
		}
	})
}

func TestBindingsAreReported(t *testing.T) {
	live(t, forever, nil, func(t *testing.T, w *world, e *Engine) {
		begin(t, e, web("a1", 0))
		last := w.reported()[1].Containers[0]
		want := []task.Binding{
			{BindIP: "0.0.0.0", Protocol: "tcp", ContainerPort: 80, ContainerPortEnd: 80, HostPort: 40000},
			{BindIP: "::", Protocol: "tcp", ContainerPort: 80, ContainerPortEnd: 80, HostPort: 40000},
		}
		if diff := cmp.Diff(want, last.Bindings); diff != "" {
			t.Error(diff)
		}
		if last.RuntimeID != RuntimeID(web("a1", 0).ARN, "web") {
			t.Errorf("runtime id %q", last.RuntimeID)
		}
	})
}

func TestAcceptIsIdempotentAndDurable(t *testing.T) {
	live(t, forever, nil, func(t *testing.T, w *world, e *Engine) {
		w.mu.Lock()
		w.diskFull = true
		w.mu.Unlock()
		if err := e.Accept(t.Context(), web("a1", 0)); err == nil {
			t.Error("a task was accepted that is not on the disk")
		}
		w.mu.Lock()
		w.diskFull = false
		w.mu.Unlock()
		for range 3 {
			if err := e.Accept(t.Context(), web("a1", 0)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		for id, n := range w.started() {
			if n != 1 {
				t.Errorf("container %s was started %d times", id, n)
			}
		}
	})
}

func TestPortTakenByTask(t *testing.T) {
	live(t, forever, nil, func(t *testing.T, w *world, e *Engine) {
		first, second := web("a1", 8080), web("a2", 8080)
		for _, d := range []task.Definition{first, second} {
			begin(t, e, d)
		}
		why, err := e.Why(t.Context(), "a2")
		if err != nil || len(why) == 0 || !strings.Contains(why[0], "8080/tcp") || !strings.Contains(why[0], "a1") {
			t.Errorf("why: %q, %v", why, err)
		}
		if err := e.Stop(t.Context(), first.ARN); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := w.reports(second.ARN); len(got) == 0 || got[len(got)-1] != "RUNNING, web RUNNING" {
			t.Errorf("the second task after the first stopped: %v", got)
		}
	})
}

func TestPortTakenByProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(forever)
		w.foreign[8080] = true
		e, stop := w.start(t, nil)
		defer stop()
		d := web("a1", 8080)
		begin(t, e, d)
		got := w.reports(d.ARN)
		if len(got) != 1 || !strings.Contains(got[0], "HostConfigError") || !strings.Contains(got[0], "nginx") {
			t.Errorf("reports: %v", got)
		}
	})
}

func TestHostResources(t *testing.T) {
	live(t, forever, func(c *Config) { c.Capacity = Capacity{CPU: 1024, Memory: 300} }, func(t *testing.T, w *world, e *Engine) {
		small := func(id string) task.Definition {
			d := web(id, 0)
			d.Containers[0].Memory = 100
			return d
		}
		big, huge := web("b1", 0), web("b2", 0)
		big.Containers[0].Memory, huge.Containers[0].Memory = 250, 301
		for _, d := range []task.Definition{small("a1"), big, huge, small("a2")} {
			begin(t, e, d)
		}
		if got := w.reports(big.ARN); got != nil {
			t.Errorf("a task that does not fit now began: %v", got)
		}
		if got := w.reports(huge.ARN); len(got) != 1 || !strings.Contains(got[0], "301 MiB") {
			t.Errorf("a task that never fits: %v", got)
		}
		if got := w.reports(small("a2").ARN); len(got) != 2 {
			t.Errorf("a task that fits waited behind one that does not: %v", got)
		}
		for _, id := range []string{"a1", "a2"} {
			if err := e.StopTask(t.Context(), id, ""); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if got := w.reports(big.ARN); len(got) != 2 {
			t.Errorf("the waiting task did not begin: %v", got)
		}
	})
}

// TestGPUIsHadByOneTask: a GPU that ECS hands on before the task that has it is gone
// is waited for.
func TestGPUIsHadByOneTask(t *testing.T) {
	live(t, forever, nil, func(t *testing.T, w *world, e *Engine) {
		gpu := func(id, device string) task.Definition {
			d := web(id, 0)
			d.Associations = []task.Association{{Type: task.AssociationGPU, Name: device, Containers: []string{"web"}}}
			return d
		}
		first, second, other := gpu("a1", "GPU-a"), gpu("a2", "GPU-a"), gpu("a3", "GPU-b")
		for _, d := range []task.Definition{first, second, other} {
			begin(t, e, d)
		}
		if got := w.reports(second.ARN); got != nil {
			t.Errorf("a task began with a GPU that another has: %v", got)
		}
		if why, err := e.Why(t.Context(), "a2"); err != nil || !strings.Contains(fmt.Sprint(why), "needs GPU GPU-a, which task a1 has") {
			t.Errorf("it waits for %v, %v", why, err)
		}
		if got := w.reports(other.ARN); len(got) != 2 {
			t.Errorf("a task with a free GPU did not begin: %v", got)
		}
		if err := e.StopTask(t.Context(), "a1", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := w.reports(second.ARN); len(got) != 2 {
			t.Errorf("the waiting task did not begin: %v", got)
		}
	})
}

func TestSigkillAfterTimeout(t *testing.T) {
	live(t, func(container.Spec) fakert.Script { return fakert.Script{IgnoreTerm: true} }, nil, func(t *testing.T, w *world, e *Engine) {
		d := web("a1", 0)
		d.Containers[0].StopTimeout = 7 * time.Second
		begin(t, e, d)
		if err := e.Stop(t.Context(), d.ARN); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		if got := w.reports(d.ARN); len(got) != 2 {
			t.Errorf("stopped too early: %v", got)
		}
		time.Sleep(2 * time.Second)
		if got := w.reports(d.ARN); len(got) != 3 || got[2] != "STOPPED, web STOPPED exit 137" {
			t.Errorf("reports: %v", got)
		}
	})
}

func TestContainerDeletedBehindOurBack(t *testing.T) {
	live(t, forever, nil, func(t *testing.T, w *world, e *Engine) {
		d := web("a1", 0)
		begin(t, e, d)
		w.runtime.Vanish(RuntimeID(d.ARN, "web"))
		time.Sleep(5 * time.Second)
		got := w.reports(d.ARN)
		if len(got) != 3 || !strings.HasPrefix(got[2], "STOPPED") || !strings.Contains(got[2], "ContainerVanishedError") {
			t.Errorf("reports: %v", got)
		}
	})
}

func TestUnknownTaskIsReportedStopped(t *testing.T) {
	live(t, forever, nil, func(t *testing.T, w *world, e *Engine) {
		if err := e.Stop(t.Context(), "arn:x/y/gone"); err != nil {
			t.Fatal(err)
		}
		if got := w.reports("arn:x/y/gone"); !slices.Equal(got, []string{"STOPPED"}) {
			t.Errorf("reports: %v", got)
		}
	})
}

// TestKilledAfterEveryEffect kills the agent after its first, second, third …
// effect on the host, starts it again, and wants the same end each time: every
// task ran once or has a reported reason, ECS heard everything in order and
// nothing twice, and nothing is left on the host.
func TestKilledAfterEveryEffect(t *testing.T) {
	for _, scenario := range []life{
		{"stopped by ECS", forever, true, "STOPPED, web STOPPED exit 143, side STOPPED exit 143", nil},
		{"exits", exits(4), false, "STOPPED, web STOPPED exit 4", nil},
		{
			"shares namespaces", forever, true, "STOPPED, web STOPPED exit 143, side STOPPED exit 143",
			func(d *task.Definition) { d.PID, d.IPC = "task", "task" },
		},
		{"awsvpc", forever, true, "STOPPED, web STOPPED exit 143, side STOPPED exit 143", inVPC},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			n := 1
			for ; n < 200; n++ {
				var died bool
				synctest.Test(t, func(t *testing.T) { died = scenario.withDeath(t, n) })
				if t.Failed() || !died {
					break
				}
			}
			if n < 20 && !t.Failed() {
				t.Errorf("only %d effects were seen", n)
			}
		})
	}
}

// life is what a task does, and what ECS hears last.
type life struct {
	name   string
	script func(container.Spec) fakert.Script
	stop   bool // by ECS
	want   string
	edit   func(*task.Definition)
}

// withDeath runs a task whose agent dies after effect n and says whether it did.
func (l life) withDeath(t *testing.T, n int) bool {
	t.Helper()
	w := newWorld(l.script)
	w.dieAfter = n
	d := web("a1", 8080)
	if l.edit != nil {
		l.edit(&d)
	}
	side := d.Containers[0]
	side.Name, side.Essential, side.Ports = "side", false, nil
	side.DependsOn = []task.Dependency{{Container: "web", Condition: task.ConditionStart}}
	d.Containers = append(d.Containers, side)

	e, end := w.start(t, nil)
	accepted, stopped := false, !l.stop
	for range 20 {
		synctest.Wait()
		if w.dead() {
			end()
			w.revive()
			e, end = w.start(t, nil)
		}
		// ECS sends again what was not acknowledged.
		if !accepted {
			accepted = e.Accept(t.Context(), d) == nil
		} else if !stopped && len(w.reports(d.ARN)) >= 2 {
			// The task ends with an error where the agent died before it wrote that down.
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errDead)
			stopped = e.Stop(ctx, d.ARN) == nil
			cancel()
		}
		time.Sleep(time.Minute)
	}
	end()
	died := w.lives() > 1
	checkEnd(t, w, d, n, l.want)
	return died
}

func checkEnd(t *testing.T, w *world, d task.Definition, n int, want string) {
	t.Helper()
	got := w.reports(d.ARN)
	where := fmt.Sprintf("killed after effect %d (%s)", n, strings.Join(w.effects[:min(n, len(w.effects))], ", "))
	if len(got) == 0 || !strings.HasPrefix(got[len(got)-1], want) {
		t.Errorf("%s: reports %q, want the last to be %q", where, got, want)
	}
	seen := map[string]bool{}
	for _, r := range got {
		status, _, _ := strings.Cut(r, ",")
		if seen[r] || (status == "STOPPED" && seen["STOPPED"]) {
			t.Errorf("%s: reported twice: %q", where, got)
		}
		seen[r], seen[status] = true, true
	}
	for id, starts := range w.started() {
		if starts > 1 {
			t.Errorf("%s: container %s was started %d times", where, id, starts)
		}
	}
	if left := w.remains(t.Context()); left != nil {
		t.Errorf("%s: left on the host: %v", where, left)
	}
}

func TestEnvironmentRegion(t *testing.T) {
	e := New(Config{Region: "eu-west-1"})
	for _, c := range []struct {
		name  string
		image []string
		given bool
		want  []string
	}{
		{"neither has one", nil, false, []string{"A=1", "AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=eu-west-1"}},
		{"the image has one", []string{"AWS_REGION=us-east-1"}, false, []string{"A=1"}},
		{"the task has one", nil, true, []string{"A=1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := e.environment(&creation{container: &task.Container{
				Spec:                     container.Spec{Process: container.Process{Env: []string{"A=1"}}},
				EnvironmentWithoutRegion: !c.given,
			}, image: container.Image{Env: c.image}})
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLinksBecomeHosts(t *testing.T) {
	pool, err := ipam.New(ipam.DefaultPool())
	if err != nil {
		t.Fatal(err)
	}
	a, err := pool.Lease("db")
	if err != nil {
		t.Fatal(err)
	}
	d := web("a1", 0)
	d.Containers[0].Links = []task.Link{{Container: "db", Alias: "database"}}
	f := files(&d, &d.Containers[0], map[string]ipam.Endpoint{"db": {ID: "db", Addresses: a}})
	want := []task.Host{
		{Name: "database", Address: a.IPv4.String()},
		{Name: "database", Address: a.IPv6.String()},
		{Name: "db", Address: a.IPv4.String()},
		{Name: "db", Address: a.IPv6.String()},
	}
	if diff := cmp.Diff(want, f.Hosts); diff != "" {
		t.Error(diff)
	}
}
