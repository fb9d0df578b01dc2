package taskmeta

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"
)

// TestFiles: what is known before a container is created, and all of it once it
// runs; a task that is gone gets none again.
func TestFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		some := bridgeTask()
		d := some.definition()
		f := NewFiles(FilesConfig{
			Dir: t.TempDir(), Log: zap.NewNop(),
			Host:      func() Host { return Host{Cluster: "blue", ContainerInstanceARN: "arn:instance", Zone: "eu-west-1a"} },
			Addresses: func(context.Context) Addresses { return Addresses{PrivateIPv4: "10.0.0.4", PublicIPv4: "192.0.2.1"} },
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		read := func(name string) string {
			text, err := os.ReadFile(filepath.Join(f.cfg.Dir, d.ID, name, FileName))
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		var dirs []string
		for _, name := range []string{"web_1", "wait"} {
			dir, err := f.Prepare(ctx, d, name)
			if err != nil {
				t.Fatal(err)
			}
			dirs = append(dirs, dir)
		}
		golden(t, "file-created.json", read("web_1"))
		f.Changed(some)
		synctest.Wait()
		golden(t, "file-ready.json", read("web_1"))
		golden(t, "file-waiting.json", read("wait"))
		if left, err := filepath.Glob(filepath.Join(dirs[0], ".new-*")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}

		for _, known := range []bool{true, false} {
			if err := SweepFiles(f.cfg.Dir, func(id string) bool { return known && id == d.ID }); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(dirs[0], FileName)); (err == nil) != known {
				t.Errorf("swept with the task known %t: %v", known, err)
			}
		}
		if err := SweepFiles(filepath.Join(f.cfg.Dir, "none"), nil); err != nil {
			t.Error(err)
		}
		if _, err := f.Prepare(ctx, d, "wait"); err != nil {
			t.Fatal(err)
		}
		if err := f.Remove(d); err != nil {
			t.Fatal(err)
		}
		f.Changed(some)
		synctest.Wait()
		if _, err := os.Stat(filepath.Join(f.cfg.Dir, d.ID)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the files of a removed task are there again: %v", err)
		}
		cancel(errors.New("the test ends"))
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
