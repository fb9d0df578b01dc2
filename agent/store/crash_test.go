package store

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/berthd/berth/agent/task"
)

// victimPath names the database in the environment of a test binary that is to
// be killed; without it the test binary runs tests.
const victimPath = "BERTH_STORE_VICTIM"

func TestMain(m *testing.M) {
	if path := os.Getenv(victimPath); path != "" {
		fmt.Fprintln(os.Stderr, victim(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const victimTasks = 8

// victim commits for ever, for some tasks at once: change n of a task together
// with a record that says n. It prints what was acknowledged.
func victim(path string) error {
	s, err := Open(path)
	if err != nil {
		return err
	}
	if s.Recovered() != "" {
		return fmt.Errorf("after a crash: %s", s.Recovered())
	}
	records, err := s.Tasks()
	if err != nil {
		return err
	}
	failed := make(chan error)
	for i := range victimTasks {
		name := fmt.Sprint("task-", i)
		n, _ := strconv.Atoi(strings.TrimSpace(string(records[name])))
		go func() {
			for {
				n++
				// Records of all sizes move pages about.
				record := strconv.Itoa(n) + strings.Repeat(" ", n*37%5000)
				if err := s.Commit(name, []byte(record), task.Change{TaskARN: name, Reason: strconv.Itoa(n)}); err != nil {
					failed <- err
					return
				}
				fmt.Println(i, n)
			}
		}()
	}
	return <-failed
}

// TestKilled kills a process in the middle of its commits, many times over one
// database, and looks each time whether all that was acknowledged is there, and
// each record together with its changes.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	acknowledged := make([]int, victimTasks)
	for round := range 12 {
		killVictim(t, path, 40+round*13, acknowledged)
		s := openTest(t, path)
		if s.Recovered() != "" {
			t.Fatalf("round %d: %s", round, s.Recovered())
		}
		records := tasks(t, s)
		changes := storedChanges(t, s)
		for i, n := range acknowledged {
			name := fmt.Sprint("task-", i)
			stored, _ := strconv.Atoi(strings.TrimSpace(records[name]))
			if stored < n {
				t.Errorf("round %d: %s is at %d, and %d was acknowledged", round, name, stored, n)
			}
			for k, reason := range changes[name] {
				if reason != strconv.Itoa(k+1) {
					t.Fatalf("round %d: change %d of %s is number %s", round, k+1, name, reason)
				}
			}
			if len(changes[name]) != stored {
				t.Errorf("round %d: %s has record %d and %d changes", round, name, stored, len(changes[name]))
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killVictim starts a victim, reads that many acknowledgements, kills it, and
// notes all that it said until then.
func killVictim(t *testing.T, path string, lines int, acknowledged []int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), victimPath+"="+path)
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(out)
	seen := 0
	for scanner.Scan() {
		var i, n int
		if _, err := fmt.Sscan(scanner.Text(), &i, &n); err != nil {
			break // a line that was cut short
		}
		acknowledged[i] = n
		if seen++; seen == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Log(err)
	}
	if err := cmd.Wait(); err == nil || seen < lines {
		t.Fatalf("the victim ended by itself after %d commits: %v", seen, err)
	}
}

// storedChanges are the reasons of all changes in the outbox, by task, in order.
func storedChanges(t *testing.T, s *Store) map[string][]string {
	t.Helper()
	reasons := make(map[string][]string)
	err := s.view(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketOutbox)).ForEach(func(key, value []byte) error {
			w, err := decodeEntry(key, value)
			reasons[w.Task] = append(reasons[w.Task], w.Change.Reason)
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return reasons
}

// TestFullDisk fills the file system under a database of its own.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	mountSmall(t, dir)
	path := filepath.Join(dir, "agent.db")
	s := openTest(t, path)
	commit(t, s, "before", []byte("{}"), running("before"))
	ballast := filepath.Join(dir, "ballast")
	fill(t, ballast)

	var group sync.WaitGroup
	big := strings.Repeat("x", 200_000)
	for i := range 5 {
		group.Go(func() {
			name := fmt.Sprint("during-", i)
			err := s.Commit(name, []byte(big), running(name))
			if err == nil {
				t.Errorf("%s was committed to a full disk", name)
				return
			}
			for _, word := range []string{path, "no space left on device", " bytes free"} {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("error = %q, want %q in it", err, word)
				}
			}
		})
	}
	group.Wait()
	equal(t, "tasks on a full disk", tasks(t, s), map[string]string{"before": "{}"})
	equal(t, "heads on a full disk", heads(t, s), []string{"1 before RUNNING"})
	equal(t, "pending on a full disk", s.Pending(), 1)

	// The next agent starts on the full disk too.
	s = reopen(t, s)
	if err := s.Commit("during", []byte(big)); err == nil {
		t.Error("a task was committed to a full disk")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	commit(t, s, "after", []byte(big), running("after"))
	for range 2 {
		equal(t, "tasks", tasks(t, s), map[string]string{"before": "{}", "after": big})
		equal(t, "heads", heads(t, s), []string{"1 before RUNNING", "2 after RUNNING"})
		s = reopen(t, s)
	}
}

// fill writes a file until there is no room for another byte.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
