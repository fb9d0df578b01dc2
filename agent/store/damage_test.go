package store

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// edits are places in a file and what to change there: four bytes of place, one
// of bits to turn over.
type edits []byte

const editSize = 5

func (e edits) apply(content []byte, limit int) {
	for ; len(e) >= editSize; e = e[editSize:] {
		content[int(binary.BigEndian.Uint32(e))%limit] ^= e[editSize-1]
	}
}

// damager damages a copy of one database again and again.
type damager struct {
	whole []byte
	used  int // bytes at the beginning that mean something
	tasks map[string]string
}

func newDamager(t testing.TB) damager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample.db")
	d := damager{tasks: sample(t, path)}
	var err error
	if d.whole, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	d.used = usedBytes(t, path)
	return d
}

// try opens the database damaged by e. Whatever comes of it, Open neither fails
// nor panics, and invents nothing: each task is as it was, or Recovered says why
// it is not there. It answers whether it did.
func (d damager) try(t testing.TB, e edits) bool {
	t.Helper()
	content := bytes.Clone(d.whole)
	e.apply(content, d.used)
	path := filepath.Join(t.TempDir(), "agent.db")
	replace(t, path, content)
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	got := tasks(t, s)
	for name, record := range got {
		if d.tasks[name] != record {
			t.Errorf("task %s came back as something else", name)
		}
	}
	if arn := s.Meta().ContainerInstanceARN; arn != "" && arn != sampleMeta().ContainerInstanceARN {
		t.Errorf("the instance is now %q", arn)
	}
	if s.Recovered() == "" && (len(got) != len(d.tasks) || s.Pending() != 2*len(d.tasks) || s.Meta() != sampleMeta()) {
		t.Errorf("%d tasks, %d entries, %+v, and nothing said", len(got), s.Pending(), s.Meta())
	}
	// What remains must bear being written, page by page.
	var group sync.WaitGroup
	for name := range d.tasks {
		group.Go(func() {
			if err := s.Commit(name, []byte("{}"), running(name)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if _, err := s.Heads(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	return s.Recovered() != ""
}

func TestRandomDamage(t *testing.T) {
	d := newDamager(t)
	random := rand.New(rand.NewPCG(1, 2))
	const rounds = 60
	recovered := 0
	for range rounds {
		e := make(edits, 0, 40*editSize)
		for range 1 + random.IntN(40) {
			e = binary.BigEndian.AppendUint32(e, random.Uint32())
			e = append(e, byte(1+random.IntN(255)))
		}
		if d.try(t, e) {
			recovered++
		}
	}
	if recovered < rounds/2 {
		t.Errorf("only %d of %d rounds of damage needed recovery: the damage misses", recovered, rounds)
	}
}

func FuzzOpen(f *testing.F) {
	d := newDamager(f)
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0x20, 0x0c, 1})
	f.Fuzz(func(t *testing.T, e []byte) { d.try(t, e) })
}

// TestSoundWorkload writes and forgets tasks of all sizes, and demands at every
// opening in between that the checks find nothing wrong and the model is met.
func TestSoundWorkload(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "agent.db"))
	random := rand.New(rand.NewPCG(3, 4))
	want := make(map[string]string)
	for round := range 12 {
		for range 40 {
			name := string(rune('a'+random.IntN(26))) + string(rune('a'+random.IntN(26)))
			if random.IntN(3) == 0 {
				delete(want, name)
				commit(t, s, name, nil, stopped(name))
				continue
			}
			record := bytes.Repeat([]byte{byte(round)}, random.IntN(9000))
			want[name] = string(record)
			commit(t, s, name, record)
		}
		for s.Pending() > 20 {
			entries, err := s.Heads()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Done(entries[0].ID); err != nil {
				t.Fatal(err)
			}
		}
		pending := s.Pending()
		s = reopen(t, s)
		equal(t, "tasks", tasks(t, s), want)
		equal(t, "pending", s.Pending(), pending)
	}
}
