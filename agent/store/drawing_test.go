package store

import (
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// TestDrawing holds the drawing in the package comment against a database in
// which all that can be stored is stored.
func TestDrawing(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "agent.db"))
	commit(t, s, "arn:task", []byte("{}"), running("arn:task"))
	if err := s.Attach("arn:attachment", []byte("{}"), "arn:task"); err != nil {
		t.Fatal(err)
	}
	err := s.Update(func(m *Meta) {
		for key, field := range m.texts() {
			*field = "value of " + key
		}
		m.ManifestSequence = 1
	})
	if err != nil {
		t.Fatal(err)
	}
	placeholders := map[string]string{
		"tasks/arn:task":                "tasks/<task>",
		"attachments/arn:attachment":    "attachments/<attachment>",
		"outbox/" + string(entryKey(1)): "outbox/<id>",
	}
	var stored []string
	err = s.view(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(bucket []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(key, _ []byte) error {
				path := string(bucket) + "/" + string(key)
				if name, ok := placeholders[path]; ok {
					path = name
				}
				stored = append(stored, path)
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(stored)
	equal(t, "drawn keys", drawing(t), stored)
}

// drawing is what the tree in the package comment shows, as bucket/key.
func drawing(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	drawn := make(map[string]bool)
	bucket := ""
	for line := range strings.Lines(file.Doc.Text()) {
		before, after, ok := strings.Cut(line, "── ")
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimSpace(after), " ")
		if strings.TrimLeft(before, "\t") == "├" || strings.TrimLeft(before, "\t") == "└" {
			bucket = name
			continue
		}
		drawn[bucket+"/"+name] = true
	}
	return slices.Sorted(maps.Keys(drawn))
}
