package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/runtime/container"
)

// oven is a containerd that writes down what it is told.
type oven struct {
	said   []string
	images []container.ImageRecord
	broken map[string]error // by what is asked for
}

var _ Baking = (*oven)(nil)

func (o *oven) say(what, ref string) error {
	o.said = append(o.said, what+" "+ref)
	return o.broken[what+" "+ref]
}

func (o *oven) Pull(ctx context.Context, req container.PullRequest, _ func(container.Progress)) (container.Image, error) {
	auth, err := req.Auth(ctx)
	if err != nil {
		return container.Image{}, err
	}
	what := strings.TrimSuffix(req.Ref+"@"+req.Digest, "@")
	if auth != nil {
		what += " as " + auth.Username
	}
	return container.Image{Ref: req.Ref}, o.say("pull", what)
}

func (o *oven) Import(_ context.Context, archive io.Reader) ([]string, error) {
	text, err := io.ReadAll(archive)
	if err != nil {
		return nil, err
	}
	name := string(bytes.TrimRight(text[:100], "\x00"))
	return []string{name}, o.say("import", name)
}

func (o *oven) Verify(_ context.Context, ref string) (container.Verified, error) {
	return container.Verified{Ref: ref, Blobs: 3}, o.say("verify", ref)
}

func (o *oven) Protect(_ context.Context, ref string) error { return o.say("protect", ref) }

func (o *oven) Images(context.Context) ([]container.ImageRecord, error) { return o.images, nil }

// archiveOf begins as an archive with this image does.
func archiveOf(ref string) string {
	block := make([]byte, tarBlock)
	copy(block, ref)
	copy(block[tarMagic:], "ustar")
	return string(block) + strings.Repeat("\x00", tarBlock)
}

func TestBake(t *testing.T) {
	const pin = "@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	files := map[string]string{
		"list":      "# our images\n\n  r.test/a:1  \nr.test/b:2" + pin + " # pinned\nprivate.test/c" + pin + "\n",
		"archive":   archiveOf("r.test/d:4"),
		"dir/1":     "r.test/e:5\n",
		"dir/2.tar": archiveOf("r.test/f:6"),
		"empty":     "",
	}
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	auth := func(_ context.Context, image string) (*container.Auth, error) {
		if strings.HasPrefix(image, "private.test/") {
			return &container.Auth{Username: "me"}, nil
		}
		return nil, nil
	}
	bad := errors.New("the content of sha256:x is not what its digest says")
	tests := []struct {
		name   string
		files  []string
		broken map[string]error
		want   []string
		err    string
	}{
		{"nothing", []string{"empty"}, nil, nil, ""},
		{"list", []string{"list"}, nil, []string{
			"pull r.test/a:1", "pull r.test/b:2" + pin, "pull private.test/c" + pin + " as me",
			"verify r.test/a:1", "protect r.test/a:1", "verify r.test/b:2", "protect r.test/b:2",
			"verify private.test/c" + pin, "protect private.test/c" + pin,
		}, ""},
		{"archive", []string{"archive"}, nil, []string{"import r.test/d:4", "verify r.test/d:4", "protect r.test/d:4"}, ""},
		{"directory", []string{"dir"}, nil, []string{
			"pull r.test/e:5", "import r.test/f:6", "verify r.test/e:5", "protect r.test/e:5", "verify r.test/f:6", "protect r.test/f:6",
		}, ""},
		{"no such file", []string{"archive", "none"}, nil, []string{"import r.test/d:4"}, "no such file"},
		{"not to be had", []string{"dir"}, map[string]error{"pull r.test/e:5": errors.New("denied")}, []string{"pull r.test/e:5"}, "cannot bake r.test/e:5: denied"},
		{"not what it is", []string{"list"}, map[string]error{"verify r.test/a:1": bad}, []string{
			"pull r.test/a:1", "pull r.test/b:2" + pin, "pull private.test/c" + pin + " as me", "verify r.test/a:1",
		}, "cannot bake r.test/a:1: " + bad.Error()},
		{"no archive", []string{"archive"}, map[string]error{"import r.test/d:4": errors.New("bad tar")}, []string{"import r.test/d:4"}, "archive: bad tar"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := &oven{broken: tt.broken}
			var paths, told []string
			for _, f := range tt.files {
				paths = append(paths, filepath.Join(dir, f))
			}
			err := bake(t.Context(), o, auth, paths, func(v container.Verified) { told = append(told, "protect "+v.Ref) })
			if fmt.Sprint(err) == "<nil>" != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, o.said); diff != "" {
				t.Errorf("containerd is told otherwise (-want +got):\n%s", diff)
			}
			var protected []string
			for _, s := range o.said {
				if strings.HasPrefix(s, "protect ") {
					protected = append(protected, s)
				}
			}
			if !cmp.Equal(protected, told) {
				t.Errorf("told of %v, and protected are %v", told, protected)
			}
		})
	}
}

// Of baked images all are looked at, also after one that is broken, and no other ones.
func TestBaked(t *testing.T) {
	record := func(ref string, protected bool) container.ImageRecord {
		return container.ImageRecord{Image: container.Image{Ref: ref}, Protected: protected}
	}
	o := &oven{
		images: []container.ImageRecord{record("a:1", true), record("b:1", false), record("c:1", true)},
		broken: map[string]error{"verify a:1": errors.New("rotten")},
	}
	var told []string
	err := baked(t.Context(), o, func(v container.Verified) { told = append(told, v.Ref) })
	if err == nil || err.Error() != "a:1 is not what it should be: rotten" || !cmp.Equal(told, []string{"c:1"}) || !cmp.Equal(o.said, []string{"verify a:1", "verify c:1"}) {
		t.Errorf("%v, told of %v, said %v", err, told, o.said)
	}
}
