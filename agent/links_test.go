package agent_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// link is a Markdown link or image, [text](target).
var link = regexp.MustCompile(`\]\(([^)\s]+)(?:\s+"[^"]*")?\)`)

// TestLinksLead looks whether the links from one page of the repository to
// another file of it lead somewhere. Other sites are not asked.
func TestLinksLead(t *testing.T) {
	top := root(t)
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != top && strings.HasPrefix(entry.Name(), ".") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, target := range targets(string(content)) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), target)); errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s links to %s, which does not exist", path, target)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// targets are the files that a page links to, without anchors and other sites.
func targets(page string) []string {
	var found []string
	for _, m := range link.FindAllStringSubmatch(page, -1) {
		target, _, _ := strings.Cut(m[1], "#")
		if target != "" && !strings.Contains(target, "://") && !strings.HasPrefix(target, "mailto:") {
			found = append(found, target)
		}
	}
	return found
}

func TestTargets(t *testing.T) {
	const page = `See [the map](agent/doc.go "a map"), ![picture](a.png#x), [site](https://example.com/x) and [here](#anchor).`
	if got := strings.Join(targets(page), " "); got != "agent/doc.go a.png" {
		t.Errorf("targets = %s", got)
	}
}
