package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// ErrTooLong: a source went on after all that there should have been.
var ErrTooLong = errors.New("longer than it should be")

// Source is a place where releases lie: metadata/ and targets/ as a TUF repository has them. Nothing that it says is believed.
type Source interface {
	// Fetch writes the file of that name, a path with slashes, to w, at most limit bytes of it; more match ErrTooLong, a file that is not
	// there fs.ErrNotExist.
	Fetch(ctx context.Context, name string, limit int64, w io.Writer) error
	// String is the place as a person wrote it.
	String() string
}

// SourceConfig is what sources need.
type SourceConfig struct {
	// HTTP asks https:// and http:// places; nil is http.DefaultClient's.
	HTTP *http.Client
	// Object reads an object for s3:// places, at most limit bytes; nil means that there are none. Its error matches fs.ErrNotExist when
	// there is no such object.
	Object func(ctx context.Context, bucket, key string, limit int64) ([]byte, error)
}

// ParseSource understands https://HOST/PATH, http://…, s3://BUCKET/PREFIX, and a directory by its absolute path.
func ParseSource(text string, c SourceConfig) (Source, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot use update source %q: %w", text, err)
	case u.Scheme == "" && strings.HasPrefix(text, "/"):
		return directory(text), nil
	case u.Scheme == "https" || u.Scheme == "http":
		client := c.HTTP
		if client == nil {
			client = http.DefaultClient
		}
		return &web{strings.TrimRight(text, "/"), client}, nil
	case u.Scheme == "s3" && u.Host != "" && c.Object != nil:
		return &bucket{text, u.Host, strings.Trim(u.Path, "/"), c.Object}, nil
	}
	return nil, fmt.Errorf("cannot use update source %q: it must be https://HOST/PATH, s3://BUCKET/PREFIX or an absolute path", text)
}

// copyBounded copies at most limit bytes and says whether there were more.
func copyBounded(w io.Writer, r io.Reader, limit int64) error {
	n, err := io.Copy(w, io.LimitReader(r, limit))
	if err != nil || n < limit {
		return err
	}
	if n, _ := io.ReadFull(r, make([]byte, 1)); n > 0 {
		return ErrTooLong
	}
	return nil
}

// directory is a source on this host, such as a mounted share.
type directory string

var _ Source = directory("")

// String is the path.
func (d directory) String() string { return string(d) }

// Fetch reads a file below the directory.
func (d directory) Fetch(_ context.Context, name string, limit int64, w io.Writer) (err error) {
	f, err := os.OpenInRoot(string(d), filepath.FromSlash(name))
	if err != nil {
		return fmt.Errorf("cannot read release: %w", err)
	}
	err = copyBounded(w, f, limit)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot read %s: %w", name, err)
	}
	return nil
}

// web is a source on a web server.
type web struct {
	base   string
	client *http.Client
}

var _ Source = (*web)(nil)

// String is the URL, without a password that may be in it.
func (s *web) String() string {
	if u, err := url.Parse(s.base); err == nil {
		return u.Redacted()
	}
	return s.base
}

// Fetch asks for a file below the URL.
func (s *web) Fetch(ctx context.Context, name string, limit int64, w io.Writer) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/"+name, http.NoBody)
	if err != nil {
		return fmt.Errorf("cannot ask for %s: %w", name, err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("cannot ask for %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusForbidden: // A bucket says 403 of what is not there to those who may not list it.
		return fmt.Errorf("cannot fetch %s: %s: %w", name, resp.Status, fs.ErrNotExist)
	default:
		return fmt.Errorf("cannot fetch %s: the server answers %s", name, resp.Status)
	}
	if err := copyBounded(w, resp.Body, limit); err != nil {
		return fmt.Errorf("cannot fetch %s: %w", name, err)
	}
	return nil
}

// bucket is a source in S3 that wants this host's credentials.
type bucket struct {
	text, name, prefix string
	object             func(ctx context.Context, bucket, key string, limit int64) ([]byte, error)
}

var _ Source = (*bucket)(nil)

// String is s3://BUCKET/PREFIX.
func (b *bucket) String() string { return b.text }

// Fetch reads an object below the prefix.
func (b *bucket) Fetch(ctx context.Context, name string, limit int64, w io.Writer) error {
	key := name
	if b.prefix != "" {
		key = b.prefix + "/" + name
	}
	data, err := b.object(ctx, b.name, key, limit+1)
	if err != nil {
		return fmt.Errorf("cannot fetch %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return fmt.Errorf("cannot fetch %s: %w", name, ErrTooLong)
	}
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("cannot keep %s: %w", name, err)
	}
	return nil
}
