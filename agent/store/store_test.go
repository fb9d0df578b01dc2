package store

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/berthd/berth/agent/task"
)

// openTest opens the database at path and closes it with the test.
func openTest(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// reopen closes s and opens its file again, as a new agent does.
func reopen(t testing.TB, s *Store) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := openTest(t, s.path)
	if again.Recovered() != "" {
		t.Fatalf("a database that was closed needed recovery: %s", again.Recovered())
	}
	return again
}

func commit(t testing.TB, s *Store, name string, record []byte, changes ...task.Change) {
	t.Helper()
	if err := s.Commit(name, record, changes...); err != nil {
		t.Fatal(err)
	}
}

func tasks(t testing.TB, s *Store) map[string]string {
	t.Helper()
	records, err := s.Tasks()
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string]string, len(records))
	for name, record := range records {
		texts[name] = string(record)
	}
	return texts
}

// heads are the heads as "id task status".
func heads(t testing.TB, s *Store) []string {
	t.Helper()
	entries, err := s.Heads()
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{}
	for _, e := range entries {
		texts = append(texts, fmt.Sprintf("%d %s %s", e.ID, e.Change.TaskARN, e.Change.Status))
	}
	return texts
}

func equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func running(name string) task.Change { return task.Change{TaskARN: name, Status: task.ReportRunning} }

func stopped(name string) task.Change { return task.Change{TaskARN: name, Status: task.ReportStopped} }

func TestTasksSurvive(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "agent.db"))
	equal(t, "tasks of a fresh database", tasks(t, s), map[string]string{})
	commit(t, s, "a", []byte(`{"n":1}`))
	commit(t, s, "b", []byte(`{"n":2}`))
	commit(t, s, "c", []byte(""))
	commit(t, s, "a", []byte(`{"n":3}`))
	commit(t, s, "b", nil)
	commit(t, s, "never there", nil)
	want := map[string]string{"a": `{"n":3}`, "c": ""}
	equal(t, "tasks", tasks(t, s), want)
	equal(t, "tasks of the next agent", tasks(t, reopen(t, s)), want)
}

func TestRecordsAreTheCallers(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "agent.db"))
	mine := []byte("mine")
	commit(t, s, "a", mine)
	clear(mine)
	theirs, err := s.Tasks()
	if err != nil {
		t.Fatal(err)
	}
	clear(theirs["a"])
	equal(t, "tasks", tasks(t, s), map[string]string{"a": "mine"})
}

func TestNamesAreChecked(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "agent.db"))
	for _, name := range []string{"", strings.Repeat("x", bbolt.MaxKeySize+1)} {
		if err := s.Commit(name, []byte("{}"), running(name)); err == nil {
			t.Errorf("a name of %d bytes was taken", len(name))
		}
	}
	equal(t, "pending", s.Pending(), 0)
}

func TestOutbox(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "agent.db"))
	commit(t, s, "a", []byte("{}"), running("a"))
	commit(t, s, "b", []byte("{}"), running("b"), stopped("b"))
	commit(t, s, "a", nil, stopped("a"))
	steps := []struct {
		done    uint64
		heads   []string
		pending int
	}{
		{0, []string{"1 a RUNNING", "2 b RUNNING"}, 4},
		{2, []string{"1 a RUNNING", "3 b STOPPED"}, 3},
		{2, []string{"1 a RUNNING", "3 b STOPPED"}, 3},
		{3, []string{"1 a RUNNING"}, 2},
		// The task's record is long gone; what is to be said of it is not.
		{1, []string{"4 a STOPPED"}, 1},
		{99, []string{"4 a STOPPED"}, 1},
		{4, []string{}, 0},
	}
	for _, step := range steps {
		if err := s.Done(step.done); err != nil {
			t.Fatal(err)
		}
		s = reopen(t, s)
		equal(t, fmt.Sprintf("heads after %d", step.done), heads(t, s), step.heads)
		equal(t, fmt.Sprintf("pending after %d", step.done), s.Pending(), step.pending)
		equal(t, fmt.Sprintf("whether b waits after %d", step.done), s.Waiting("b"), slices.ContainsFunc(step.heads, func(h string) bool {
			return strings.Contains(h, " b ")
		}))
	}
	commit(t, s, "c", []byte("{}"), running("c"))
	equal(t, "an id is never used again", heads(t, s), []string{"5 c RUNNING"})
}

// TestOutboxKeepsTheWholeChange looks whether a change comes back as it was put.
func TestOutboxKeepsTheWholeChange(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "agent.db"))
	code := 137
	pull := time.Date(2026, 11, 23, 1, 2, 3, 456000000, time.UTC)
	want := task.Change{
		TaskARN: "a", Status: task.ReportStopped, Reason: "Essential container in task exited",
		PullStartedAt: pull, PullStoppedAt: pull.Add(time.Second),
		Containers: []task.ContainerChange{{
			Name: "web", Status: task.ReportStopped, ExitCode: &code, Reason: "OutOfMemoryError: ☠",
			RuntimeID: "r1", ImageDigest: "sha256:00",
			Bindings: []task.Binding{{BindIP: "0.0.0.0", Protocol: "tcp", ContainerPort: 80, ContainerPortEnd: 80, HostPort: 8080}},
		}},
	}
	commit(t, s, "a", nil, want)
	entries, err := reopen(t, s).Heads()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "heads", entries, []task.Entry{{ID: 1, Change: want}})
}

func TestChanged(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "agent.db"))
	told := func() bool {
		select {
		case <-s.Changed():
			return true
		default:
			return false
		}
	}
	equal(t, "told of an empty outbox", told(), false)
	commit(t, s, "a", []byte("{}"))
	equal(t, "told of a record alone", told(), false)
	commit(t, s, "a", []byte("{}"), running("a"))
	commit(t, s, "b", []byte("{}"), running("b"), stopped("b"))
	equal(t, "told of changes", told(), true)
	equal(t, "told once of many", told(), false)
	if err := errors.Join(s.Done(1), s.Done(1)); err != nil {
		t.Fatal(err)
	}
	equal(t, "told of a task that has nothing more", told(), false)
	if err := s.Done(2); err != nil {
		t.Fatal(err)
	}
	equal(t, "told of the next in a task's line", told(), true)
	s = reopen(t, s)
	equal(t, "told of what an earlier agent left", told(), true)
}

func TestMeta(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "agent.db"))
	equal(t, "meta of a fresh database", s.Meta(), Meta{ManifestSequence: NoManifest})
	want := Meta{
		ContainerInstanceARN: "arn:aws:ecs:us-west-2:1:container-instance/default/ab",
		Cluster:              "default", AvailabilityZone: "us-west-2a", EC2InstanceID: "i-1",
		AgentVersion: "1.0.0", Drain: "{}", BootID: "b", ManifestSequence: 1 << 53,
	}
	if err := s.Update(func(m *Meta) { *m = want }); err != nil {
		t.Fatal(err)
	}
	equal(t, "meta", s.Meta(), want)
	s = reopen(t, s)
	equal(t, "meta of the next agent", s.Meta(), want)
	// Updates at once each see the other's.
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if err := s.Update(func(m *Meta) { m.ManifestSequence++ }); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	want.ManifestSequence += 20
	equal(t, "meta after updates at once", s.Meta(), want)
	if err := s.Update(func(m *Meta) { m.Cluster, m.ManifestSequence = "", NoManifest }); err != nil {
		t.Fatal(err)
	}
	want.Cluster, want.ManifestSequence = "", NoManifest
	equal(t, "meta with fields forgotten", reopen(t, s).Meta(), want)
}

// TestAttachments: they are kept beside tasks, and their news are in line with
// those of their subject.
func TestAttachments(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "agent.db"))
	if err := s.Attach("arn:eni", []byte("waiting"), "a"); err != nil {
		t.Fatal(err)
	}
	if s.Waiting("a") {
		t.Error("a record alone is no news")
	}
	attached := task.Change{TaskARN: "a", Attached: &task.Attached{ARN: "arn:eni"}}
	if err := s.Attach("arn:eni", []byte("there"), "a", attached); err != nil {
		t.Fatal(err)
	}
	commit(t, s, "a", []byte("{}"), running("a"))
	for range 2 { // as it is, and over a restart
		kept, err := s.Attachments()
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "attachments", string(kept["arn:eni"]), "there")
		equal(t, "how many", len(kept), 1)
		entries, err := s.Heads()
		if err != nil || len(entries) != 1 || entries[0].Change.Attached == nil || entries[0].Change.Attached.ARN != "arn:eni" {
			t.Errorf("heads %+v, %v", entries, err)
		}
		s = reopen(t, s)
	}
	if err := s.Attach("arn:eni", nil, "a"); err != nil {
		t.Fatal(err)
	}
	kept, err := s.Attachments()
	if err != nil || len(kept) != 0 {
		t.Errorf("after forgetting: %v, %v", kept, err)
	}
	if err := s.Attach("", nil, "a"); err == nil {
		t.Error("an attachment without a name was stored")
	}
	if err := errors.Join(s.Attach("arn:eni", []byte("x"), "a"), s.Reset()); err != nil {
		t.Fatal(err)
	}
	if kept, err := s.Attachments(); err != nil || len(kept) != 0 {
		t.Errorf("after a reset: %v, %v", kept, err)
	}
}

func TestReset(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "agent.db"))
	commit(t, s, "a", []byte("{}"), running("a"), stopped("a"))
	if err := s.Update(func(m *Meta) { m.EC2InstanceID, m.ManifestSequence = "i-1", 4 }); err != nil {
		t.Fatal(err)
	}
	if err := s.Reset(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as it is, and over a restart
		equal(t, "tasks", tasks(t, s), map[string]string{})
		equal(t, "heads", heads(t, s), []string{})
		equal(t, "pending", s.Pending(), 0)
		equal(t, "meta", s.Meta(), Meta{ManifestSequence: NoManifest})
		s = reopen(t, s)
	}
	commit(t, s, "b", []byte("{}"), running("b"))
	if err := s.Done(1); err != nil { // a sender that slept through the reset
		t.Fatal(err)
	}
	equal(t, "an id is not used again after a reset", heads(t, s), []string{"3 b RUNNING"})
}

func TestClosed(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "agent.db"))
	commit(t, s, "a", []byte("{}"), running("a"))
	var group sync.WaitGroup
	for i := range 8 { // callers on their way while it closes get one answer or the other
		group.Go(func() {
			for {
				err := s.Commit(fmt.Sprint("t", i), []byte("{}"))
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	group.Wait()
	_, tasksErr := s.Tasks()
	_, headsErr := s.Heads()
	for what, err := range map[string]error{
		"Commit": s.Commit("a", nil), "Done": s.Done(1), "Update": s.Update(func(*Meta) {}),
		"Reset": s.Reset(), "Tasks": tasksErr, "Heads": headsErr,
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
}

// transactions is how many were written since the database was begun.
func transactions(t testing.TB, s *Store) int {
	t.Helper()
	var id int
	err := s.db.View(func(tx *bbolt.Tx) error {
		id = tx.ID()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestGroupCommit holds the writer inside a transaction while forty callers come
// to stand in line, and demands that they share the next one.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openTest(t, filepath.Join(t.TempDir(), "agent.db"))
		before := transactions(t, s)
		release := make(chan struct{})
		var group sync.WaitGroup
		group.Go(func() {
			if err := s.Update(func(*Meta) { <-release }); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait() // the writer is in its transaction
		for i := range 40 {
			group.Go(func() {
				name := fmt.Sprint("t", i)
				if err := s.Commit(name, []byte(name), running(name)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait() // the callers stand in line
		close(release)
		group.Wait()
		if got := transactions(t, s) - before; got != 2 {
			t.Errorf("the update and forty commits took %d transactions, want 2", got)
		}
		equal(t, "tasks stored", len(tasks(t, s)), 40)
		equal(t, "entries stored", s.Pending(), 40)
	})
}

// TestOneBadPart looks whether a caller whose part cannot be applied leaves its
// neighbours in the same transaction alone.
func TestOneBadPart(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "agent.db"))
	bad := errors.New("no")
	good := func(name string) request {
		return request{
			answer: make(chan error, 1),
			after:  func() {},
			apply: func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte(bucketTasks)).Put([]byte(name), encode([]byte(name), []byte("{}")))
			},
		}
	}
	group := []request{good("a"), good("b"), good("c")}
	group[1].apply = func(*bbolt.Tx) error { return bad }
	answers := []chan error{group[0].answer, group[1].answer, group[2].answer}
	s.commit(group)
	for i, answer := range answers {
		if err := <-answer; errors.Is(err, bad) != (i == 1) || (i != 1 && err != nil) {
			t.Errorf("caller %d was told %v", i, err)
		}
	}
	equal(t, "tasks", tasks(t, s), map[string]string{"a": "{}", "c": "{}"})
}

func BenchmarkCommit(b *testing.B) {
	record := bytes.Repeat([]byte("x"), 4096)
	for _, callers := range []int{1, 40} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := openTest(b, filepath.Join(b.TempDir(), "agent.db"))
			before := transactions(b, s)
			var group sync.WaitGroup
			for i := range callers {
				group.Go(func() {
					name := fmt.Sprint("t", i)
					for range b.N {
						if err := s.Commit(name, record); err != nil {
							b.Error(err)
						}
					}
				})
			}
			group.Wait()
			b.ReportMetric(float64(transactions(b, s)-before)/float64(b.N*callers), "tx/commit")
			b.ReportMetric(float64(b.N*callers)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

// BenchmarkOpen opens, checks and closes the database of a host with forty tasks
// and a thousand changes that wait, as a restarted agent does.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "agent.db")
	s := openTest(b, path)
	for i := range 40 {
		name := fmt.Sprint("t", i)
		commit(b, s, name, bytes.Repeat([]byte("x"), 8192), slices.Repeat([]task.Change{running(name)}, 25)...)
	}
	for b.Loop() {
		s = reopen(b, s)
	}
}
