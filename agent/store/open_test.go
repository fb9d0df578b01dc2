package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// sample writes a database with thirty tasks and two entries each.
func sample(t testing.TB, path string) map[string]string {
	t.Helper()
	s := openTest(t, path)
	for i := range 30 {
		name := fmt.Sprintf("task-%02d", i)
		commit(t, s, name, bytes.Repeat([]byte(name), 100), running(name), stopped(name))
	}
	if err := s.Update(func(m *Meta) { *m = sampleMeta() }); err != nil {
		t.Fatal(err)
	}
	want := tasks(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return want
}

func sampleMeta() Meta {
	return Meta{ContainerInstanceARN: "arn:i", Cluster: "default", BootID: "b", ManifestSequence: 7}
}

// besides are the files that Open put beside path, by kind.
func besides(t testing.TB, path, kind string) []string {
	t.Helper()
	names, err := filepath.Glob(path + "." + kind + "-*")
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "data", "agent.db")
	openTest(t, path)
	for name, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): 0o700 | fs.ModeDir} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "mode of "+name, info.Mode(), want)
	}
}

// TestUnusableFiles opens what is no database of ours: a fresh one is begun, the
// file is kept as it was, and Recovered says where.
func TestUnusableFiles(t *testing.T) {
	change := func(edit func(b []byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			t.Helper()
			sample(t, path)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			replace(t, path, edit(b))
		}
	}
	edit := func(edit func(tx *bbolt.Tx) error) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			t.Helper()
			update(t, path, edit)
		}
	}
	page := os.Getpagesize()
	for _, test := range []struct {
		name, kind, says string
		begin            func(t *testing.T, path string)
	}{
		{"text", "corrupt", "invalid database", func(t *testing.T, path string) {
			t.Helper()
			replace(t, path, bytes.Repeat([]byte("I am a novel. "), 4096))
		}},
		{"short text", "corrupt", "", func(t *testing.T, path string) {
			t.Helper()
			replace(t, path, []byte("no"))
		}},
		{"zeroes", "corrupt", "invalid", change(func(b []byte) []byte { return make([]byte, len(b)) })},
		{"no meta pages", "corrupt", "invalid", change(func(b []byte) []byte { clear(b[:2*page]); return b })},
		{"cut after the meta pages", "corrupt", "", change(func(b []byte) []byte { return b[:2*page] })},
		{"cut in the middle", "corrupt", "", change(func(b []byte) []byte { return b[:6*page] })},
		{"cut at the end", "corrupt", "bytes are there", func(t *testing.T, path string) {
			t.Helper()
			sample(t, path)
			if err := os.Truncate(path, int64(usedBytes(t, path)-1)); err != nil {
				t.Fatal(err)
			}
		}},
		{"no data pages", "corrupt", "", change(func(b []byte) []byte { clear(b[2*page:]); return b })},
		{"newer", "newer", "schema 7", func(t *testing.T, path string) {
			t.Helper()
			sample(t, path)
			update(t, path, func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte(bucketMeta)).Put([]byte(keySchema), []byte("7"))
			})
		}},
		{"no tasks", "corrupt", "without bucket tasks", func(t *testing.T, path string) {
			t.Helper()
			sample(t, path)
			update(t, path, func(tx *bbolt.Tx) error { return tx.DeleteBucket([]byte(bucketTasks)) })
		}},
		{"nonsense schema", "corrupt", `schema "x"`, edit(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket([]byte(bucketMeta))
			return errors.Join(err, b.Put([]byte(keySchema), []byte("x")))
		})},
		{"another program's", "corrupt", "no database of an agent", edit(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucket([]byte("snapshots"))
			return err
		})},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "agent.db")
			test.begin(t, path)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s := openTest(t, path)
			kept := besides(t, path, test.kind)
			if len(kept) != 1 {
				t.Fatalf("files put aside: %v; recovered: %q", kept, s.Recovered())
			}
			if !strings.Contains(s.Recovered(), kept[0]) || !strings.Contains(s.Recovered(), test.says) {
				t.Errorf("Recovered = %q, want %q and %q in it", s.Recovered(), kept[0], test.says)
			}
			after, err := os.ReadFile(kept[0])
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the file was not kept as it was (%v)", err)
			}
			commit(t, s, "a", []byte("{}"), running("a"))
			again := reopen(t, s)
			equal(t, "tasks", tasks(t, again), map[string]string{"a": "{}"})
			equal(t, "heads", heads(t, again), []string{"1 a RUNNING"})
		})
	}
}

// TestUnfinishedBeginning opens what a crash can leave of a first start.
func TestUnfinishedBeginning(t *testing.T) {
	for name, begin := range map[string]func(t *testing.T, path string){
		"an empty file": func(t *testing.T, path string) {
			t.Helper()
			replace(t, path, nil)
		},
		"a database without buckets": func(t *testing.T, path string) {
			t.Helper()
			update(t, path, func(*bbolt.Tx) error { return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "agent.db")
			begin(t, path)
			s := openTest(t, path)
			equal(t, "recovered", s.Recovered(), "")
			commit(t, s, "a", []byte("{}"))
			equal(t, "tasks", tasks(t, reopen(t, s)), map[string]string{"a": "{}"})
		})
	}
}

func TestDamagedRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	want := sample(t, path)
	delete(want, "task-03")
	update(t, path, func(tx *bbolt.Tx) error {
		return errors.Join(
			tx.Bucket([]byte(bucketTasks)).Put([]byte("task-03"), []byte("not what it was")),
			tx.Bucket([]byte(bucketMeta)).Put([]byte("cluster"), []byte("not what it was")),
			tx.Bucket([]byte(bucketOutbox)).Put(entryKey(1), encode(entryKey(1), []byte("no JSON"))),
			tx.Bucket([]byte(bucketOutbox)).Put([]byte("odd"), encode([]byte("odd"), []byte("{}"))),
		)
	})
	s := openTest(t, path)
	for _, word := range []string{`tasks/"task-03"`, `meta/"cluster"`, `outbox/"odd"`, "is kept as " + path + ".damaged-"} {
		if !strings.Contains(s.Recovered(), word) {
			t.Errorf("Recovered = %q, want %q in it", s.Recovered(), word)
		}
	}
	equal(t, "copies", len(besides(t, path, "damaged")), 1)
	equal(t, "tasks", tasks(t, s), want)
	equal(t, "first head", heads(t, s)[0], "2 task-00 STOPPED")
	equal(t, "pending", s.Pending(), 59)
	meta := sampleMeta()
	meta.Cluster = ""
	equal(t, "meta", s.Meta(), meta)
	reopen(t, s) // demands that nothing is left to recover
}

func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	openTest(t, path)
	_, err := open(path, 1, migrations())
	if !errors.Is(err, ErrLocked) {
		t.Fatalf("a second agent got %v", err)
	}
	want := fmt.Sprintf("another berth agent (pid %d) holds it", os.Getpid())
	if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
		t.Errorf("error = %q, want %q and %q in it", err, want, path)
	}
	equal(t, "files put aside", besides(t, path, "*"), nil)
}

func TestHolderOf(t *testing.T) {
	const locks = `1: POSIX  ADVISORY  WRITE 11 fe:00:77 0 EOF
2: FLOCK  ADVISORY  WRITE 12 fe:00:177 0 EOF
3: FLOCK  ADVISORY  WRITE -1 fe:00:77 0 EOF
4: FLOCK  ADVISORY  WRITE 14 fe:00:77 0 EOF
4: -> FLOCK  ADVISORY  WRITE 15 fe:00:77 0 EOF
5: FLOCK
`
	equal(t, "holder", holderOf(locks, 77), 14)
	equal(t, "holder of another file", holderOf(locks, 7), 0)
}

// TestNotOurFault looks whether what another try may cure is an error, and
// leaves the file where it is.
func TestNotOurFault(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "agent.db"), 0o700); err != nil {
		t.Fatal(err)
	}
	replace(t, filepath.Join(dir, "file"), []byte("x"))
	for _, path := range []string{filepath.Join(dir, "agent.db"), filepath.Join(dir, "file", "agent.db")} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "cannot") {
			t.Errorf("Open(%s) = %v", path, err)
		}
	}
	equal(t, "files put aside", besides(t, filepath.Join(dir, "agent.db"), "*"), nil)
}

func TestMigration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	want := sample(t, path)
	boom := errors.New("boom")
	failing := append(migrations(), func(tx *bbolt.Tx) error {
		return errors.Join(tx.DeleteBucket([]byte(bucketTasks)), boom)
	})
	if _, err := open(path, lockTimeout, failing); !errors.Is(err, boom) || !strings.Contains(err.Error(), "from schema 2 to 3") {
		t.Fatalf("a migration that fails: %v", err)
	}
	upgrade := append(migrations(), func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("leases"))
		return err
	})
	for range 2 { // the second time there is nothing to do
		s, err := open(path, lockTimeout, upgrade)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "tasks", tasks(t, s), want)
		equal(t, "recovered", s.Recovered(), "")
		err = s.view(func(tx *bbolt.Tx) error {
			if version, err := schemaOf(tx); version != 3 || err != nil {
				t.Errorf("schema = %d, %v", version, err)
			}
			if tx.Bucket([]byte("leases")) == nil {
				t.Error("the new bucket is missing")
			}
			return nil
		})
		if err := errors.Join(err, s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	// The agent from before the migration goes back to what it wrote, and keeps the newer file.
	s := openTest(t, path)
	equal(t, "tasks", tasks(t, s), want)
	equal(t, "newer files put aside", len(besides(t, path, "newer")), 1)
	equal(t, "it says so", strings.Contains(s.Recovered(), "from before that agent is used again"), true)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// Once the newer agent has proved itself there is nothing to go back to.
	s, err := open(path, lockTimeout, upgrade)
	if err := errors.Join(err, s.Close(), DropCopies(path)); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, path)
	equal(t, "tasks", tasks(t, s), map[string]string{})
	equal(t, "newer files put aside", len(besides(t, path, "newer")), 2)
}

// TestFirstSchema opens a database of the first agents, which knew no
// attachments.
func TestFirstSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.db")
	want := sample(t, path)
	update(t, path, func(tx *bbolt.Tx) error {
		return errors.Join(tx.DeleteBucket([]byte(bucketAttachments)), tx.Bucket([]byte(bucketMeta)).Put([]byte(keySchema), []byte("1")))
	})
	s := openTest(t, path)
	equal(t, "recovered", s.Recovered(), "")
	equal(t, "tasks", tasks(t, s), want)
	if err := s.Attach("arn:eni", []byte("{}"), "a"); err != nil {
		t.Error(err)
	}
}

// replace writes a file of the test's own.
func replace(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// update edits the file behind the Store's back.
func update(t testing.TB, path string, edit func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(edit), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// usedBytes is the size of the file without its unwritten end.
func usedBytes(t testing.TB, path string) int {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	err = db.View(func(tx *bbolt.Tx) error {
		size = tx.Size()
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return int(size)
}
