package update_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/berthd/berth/agent/update"
)

func TestSources(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("twelve bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.StripPrefix("/releases", http.FileServer(http.Dir(dir))))
	defer server.Close()
	c := update.SourceConfig{Object: func(_ context.Context, bucket, key string, limit int64) ([]byte, error) {
		if bucket != "our-releases" || key != "berth/file" {
			return nil, fs.ErrNotExist
		}
		return []byte("twelve bytes")[:min(12, limit)], nil
	}}
	for _, text := range []string{dir, server.URL + "/releases", server.URL + "/releases/", "s3://our-releases/berth"} {
		s, err := update.ParseSource(text, c)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := s.Fetch(t.Context(), "file", 12, &out); err != nil || out.String() != "twelve bytes" {
			t.Errorf("%s: %q: %v", text, out.String(), err)
		}
		if err := s.Fetch(t.Context(), "file", 11, &bytes.Buffer{}); !errors.Is(err, update.ErrTooLong) {
			t.Errorf("%s: %v, want %v", text, err, update.ErrTooLong)
		}
		if err := s.Fetch(t.Context(), "nothing", 12, &bytes.Buffer{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want %v", text, err, fs.ErrNotExist)
		}
	}
	// A directory does not lead out of itself.
	inner, err := update.ParseSource(filepath.Join(dir, "inner"), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "inner"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := inner.Fetch(t.Context(), "../file", 12, &bytes.Buffer{}); err == nil {
		t.Error("../file was read")
	}
	for _, bad := range []string{"", "relative/path", "ftp://host/x", "s3://", "https://%zz"} {
		if _, err := update.ParseSource(bad, c); err == nil {
			t.Errorf("%q is a source", bad)
		}
	}
	if _, err := update.ParseSource("s3://our-releases/berth", update.SourceConfig{}); err == nil {
		t.Error("s3 without a way to ask it")
	}
	if s, err := update.ParseSource("https://user:secret@host/x", c); err != nil || s.String() != "https://user:xxxxx@host/x" {
		t.Errorf("%s: %v", s, err)
	}
}
