package fakert_test

import (
	"errors"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/fakert"
)

// made is a Runtime with a container that follows the script.
func made(t *testing.T, script fakert.Script) *fakert.Runtime {
	t.Helper()
	rt := fakert.New(fakert.Config{Container: func(container.Spec) fakert.Script { return script }})
	if _, err := rt.Pull(t.Context(), container.PullRequest{Ref: "web"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := rt.Create(t.Context(), container.Spec{ID: "c", Image: "web"}); err != nil {
		t.Fatal(err)
	}
	return rt
}

func status(t *testing.T, rt *fakert.Runtime) container.Status {
	t.Helper()
	all, err := rt.List(t.Context(), "c")
	if err != nil || len(all) != 1 {
		t.Fatalf("List = %v, %v", all, err)
	}
	return all[0]
}

func TestScript(t *testing.T) {
	tests := []struct {
		name   string
		script fakert.Script
		term   bool
		after  time.Duration
		want   container.Exit
	}{
		{"ExitAfter", fakert.Script{ExitAfter: time.Hour, ExitCode: 3}, false, time.Hour, container.Exit{Code: 3, Known: true}},
		{"OOM", fakert.Script{ExitAfter: time.Minute, OOM: true}, false, time.Minute, container.Exit{Code: 137, Known: true, OOMKilled: true}},
		{"Term", fakert.Script{}, true, 0, container.Exit{Code: 143, Known: true}},
		{"TermDelay", fakert.Script{TermDelay: 9 * time.Second, CatchTerm: true}, true, 9 * time.Second, container.Exit{Code: 0, Known: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rt := made(t, tt.script)
				begun := time.Now()
				if _, err := rt.Start(t.Context(), "c"); err != nil {
					t.Fatal(err)
				}
				if tt.term {
					if err := rt.Signal(t.Context(), "c", syscall.SIGTERM, false); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(24 * time.Hour)
				st := status(t, rt)
				if st.Exit == nil {
					t.Fatalf("it runs on: %+v", st)
				}
				if took := st.Exit.At.Sub(begun); took != tt.after {
					t.Errorf("ended after %s, want %s", took, tt.after)
				}
				got := *st.Exit
				got.At = time.Time{}
				if got != tt.want {
					t.Errorf("exit %+v, want %+v", got, tt.want)
				}
			})
		})
	}
}

func TestBreakAndMend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := made(t, fakert.Script{})
		events := rt.Events(t.Context())
		<-events
		rt.Break()
		if _, err := rt.Start(t.Context(), "c"); !errors.Is(err, container.ErrUnavailable) || !container.Retryable(err) {
			t.Errorf("Start = %v", err)
		}
		rt.Mend()
		if e := <-events; e.Kind != container.EventResync {
			t.Errorf("event %+v", e)
		}
		if _, err := rt.Start(t.Context(), "c"); err != nil {
			t.Error(err)
		}
	})
}

func TestRebootAndVanish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := made(t, fakert.Script{})
		if _, err := rt.Start(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		rt.Reboot()
		if st := status(t, rt); st.Phase != container.Stopped || st.Exit.Known {
			t.Errorf("after a reboot %+v %+v", st, st.Exit)
		}
		rt.Vanish("c")
		if all, err := rt.List(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("List = %v, %v", all, err)
		}
		want := []string{"pull web", "create c", "start c"}
		if got := rt.Calls(); !slices.Equal(got, want) {
			t.Errorf("calls %q, want %q", got, want)
		}
	})
}

func TestPullOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := fakert.New(fakert.Config{Image: func(container.PullRequest) fakert.Image {
			return fakert.Image{Digest: "sha256:aa", PullDelay: time.Minute}
		}})
		done := make(chan error, 3)
		begun := time.Now()
		for range 3 {
			go func() {
				_, err := rt.Pull(t.Context(), container.PullRequest{Ref: "web"}, nil)
				done <- err
			}()
		}
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begun); took != time.Minute || rt.Fetches("sha256:aa") != 1 {
			t.Errorf("took %s and %d fetches", took, rt.Fetches("sha256:aa"))
		}
	})
}
