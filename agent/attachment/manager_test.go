package attachment

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/task"
)

// disk is a Store that outlives Managers.
type disk struct {
	mu      sync.Mutex // guards the fields below
	records map[string][]byte
	news    []string
	full    bool
}

func (d *disk) Attach(arn string, record []byte, subject string, changes ...task.Change) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full {
		return errors.New("no space left on device")
	}
	if record == nil {
		delete(d.records, arn)
	} else {
		d.records[arn] = record
	}
	for _, c := range changes {
		d.news = append(d.news, subject+": "+c.TaskARN+" "+c.Attached.ARN)
	}
	return nil
}

func (d *disk) Attachments() (map[string][]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.records), nil
}

func (d *disk) fill(full bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
}

// holds is what the disk has, for comparisons.
func (d *disk) holds() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(d.records)), " ") + " | " + strings.Join(d.news, ", ")
}

// slot is a Finder: devices come when they are plugged in.
type slot struct {
	mu      sync.Mutex // guards the field below
	devices map[string]chan struct{}
	broken  error
}

func (s *slot) of(device string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.devices[device] == nil {
		s.devices[device] = make(chan struct{})
	}
	return s.devices[device]
}

func (s *slot) Await(ctx context.Context, a task.Attachment) error {
	if s.broken != nil {
		return s.broken
	}
	select {
	case <-s.of(a.Device()):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// life is one agent's.
type life struct {
	*Manager

	kill func()
}

func begin(t *testing.T, d *disk, s *slot) life {
	t.Helper()
	finders := make(map[task.AttachmentKind]Finder)
	finders[task.AttachmentTaskENI], finders[task.AttachmentInstanceENI] = s, s
	m, err := New(Config{Store: d, Log: zap.NewNop(), Finders: finders})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Run(ctx) // It ends with ctx.
	}()
	synctest.Wait()
	return life{m, func() {
		cancel(errors.New("killed"))
		<-done
	}}
}

func eni(arn, mac string, wait time.Duration) task.Attachment {
	return task.Attachment{
		ARN: arn, Kind: task.AttachmentTaskENI, TaskARN: "arn:aws:ecs:r:1:task/c/" + arn, MAC: mac, ExpiresAt: time.Now().Add(wait),
	}
}

func want(t *testing.T, d *disk, text string) {
	t.Helper()
	synctest.Wait()
	if got := d.holds(); got != text {
		t.Errorf("the disk holds %q, want %q", got, text)
	}
}

func TestLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := &disk{records: map[string][]byte{}}, &slot{devices: map[string]chan struct{}{}}
		m := begin(t, d, s)
		for range 2 { // the message is repeated
			if err := m.Accept(t.Context(), eni("one", "m1", time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		trunk := task.Attachment{ARN: "trunk", Kind: task.AttachmentInstanceENI, MAC: "m9", ExpiresAt: time.Now().Add(time.Minute)}
		if err := m.Accept(t.Context(), trunk); err != nil {
			t.Fatal(err)
		}
		want(t, d, "one trunk | ")
		if got := len(m.Attachments()); got != 2 {
			t.Errorf("%d are waited for", got)
		}
		close(s.of("m1"))
		want(t, d, "one trunk | one: arn:aws:ecs:r:1:task/c/one one")
		close(s.of("m9"))
		want(t, d, "one trunk | one: arn:aws:ecs:r:1:task/c/one one, trunk:  trunk")
		// Once it is there, a repetition is no news, and neither is its end.
		if err := m.Accept(t.Context(), eni("one", "m1", time.Hour)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		want(t, d, " | one: arn:aws:ecs:r:1:task/c/one one, trunk:  trunk")
		m.kill()
	})
}

func TestNeverThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := &disk{records: map[string][]byte{}}, &slot{devices: map[string]chan struct{}{}}
		m := begin(t, d, s)
		if err := m.Accept(t.Context(), eni("one", "m1", time.Minute)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		want(t, d, "one | ")
		time.Sleep(time.Second)
		want(t, d, " | ")
		close(s.of("m1")) // too late
		want(t, d, " | ")
		m.kill()

		// One that ran out while no agent was there is not waited for.
		m = begin(t, d, s)
		if err := m.Accept(t.Context(), eni("two", "m2", time.Minute)); err != nil {
			t.Fatal(err)
		}
		m.kill()
		time.Sleep(time.Hour)
		close(s.of("m2"))
		m = begin(t, d, s)
		want(t, d, " | ")
		m.kill()
	})
}

func TestKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := &disk{records: map[string][]byte{}}, &slot{devices: map[string]chan struct{}{}}
		const news = "one: arn:aws:ecs:r:1:task/c/one one"
		m := begin(t, d, s)
		if err := m.Accept(t.Context(), eni("one", "m1", time.Minute)); err != nil {
			t.Fatal(err)
		}
		m.kill()
		close(s.of("m1")) // it comes while no agent is there
		m = begin(t, d, s)
		want(t, d, "one | "+news)
		m.kill()
		m = begin(t, d, s) // nothing is said twice
		want(t, d, "one | "+news)
		time.Sleep(time.Minute)
		want(t, d, " | "+news)
		m.kill()

		// What cannot be read is left out, and the kinds of yesterday are not waited for.
		d.records["bad"] = []byte("{")
		d.records["vol"] = []byte(`{"ARN":"vol","Kind":"ebs","VolumeID":"v","ExpiresAt":"` + time.Now().Add(time.Minute).Format(time.RFC3339) + `"}`)
		m = begin(t, d, s)
		if got := m.Attachments(); len(got) != 1 || got[0].Device() != "v" {
			t.Errorf("known: %+v", got)
		}
		time.Sleep(time.Minute)
		want(t, d, "bad | "+news)
		m.kill()
	})
}

func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := &disk{records: map[string][]byte{}}, &slot{devices: map[string]chan struct{}{}}
		m := begin(t, d, s)
		d.fill(true)
		if err := m.Accept(t.Context(), eni("one", "m1", time.Minute)); err == nil || len(m.Attachments()) != 0 {
			t.Errorf("an attachment was taken on that is not on the disk: %v", err)
		}
		d.fill(false)
		if err := m.Accept(t.Context(), eni("one", "m1", time.Minute)); err != nil {
			t.Fatal(err)
		}
		d.fill(true)
		close(s.of("m1"))
		want(t, d, "one | ")
		d.fill(false)
		time.Sleep(2 * time.Second)
		want(t, d, "one | one: arn:aws:ecs:r:1:task/c/one one")
		m.kill()
	})
}

// The same device under another name is another attachment: EC2 has given the
// address away again.
func TestDeviceIsAttachedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := &disk{records: map[string][]byte{}}, &slot{devices: map[string]chan struct{}{}}
		m := begin(t, d, s)
		for _, arn := range []string{"one", "two"} {
			if err := m.Accept(t.Context(), eni(arn, "m1", time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		want(t, d, "two | ")
		close(s.of("m1"))
		want(t, d, "two | two: arn:aws:ecs:r:1:task/c/two two")
		m.kill()
	})
}

func TestWhatCannotBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := &disk{records: map[string][]byte{}}, &slot{broken: errors.New("no netlink")}
		m := begin(t, d, s)
		if err := m.Accept(t.Context(), task.Attachment{ARN: "vol", Kind: task.AttachmentEBS}); !errors.Is(err, ErrKind) {
			t.Errorf("a kind without a finder: %v", err)
		}
		if err := m.Accept(t.Context(), eni("one", "m1", time.Minute)); err != nil {
			t.Fatal(err)
		}
		want(t, d, "one | ")
		time.Sleep(time.Minute)
		want(t, d, " | ")
		m.kill()
	})
}
