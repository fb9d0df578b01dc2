package ctrd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"

	remoteserrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/berthd/berth/runtime/container"
)

// secretURL is the address of a layer in ECR's bucket, with its signature.
var (
	secretURL = regexp.MustCompile(`https?[^\s"]*starport-layer-bucket[^\s"]*`)
	// query is what a signed address carries; nobody needs to see it.
	query = regexp.MustCompile(`(https?://[^\s"?]+)\?[^\s"]*`)
)

// advice is put before messages of the registry that users meet often, as
// spec/task-engine.md §7.3 has it.
//
//nolint:gochecknoglobals // an immutable table
var advice = []struct {
	words *regexp.Regexp
	say   string
}{
	{
		regexp.MustCompile(`denied: User: .* is not authorized to perform: ecr:BatchGetImage on resource`),
		"The task can’t pull the image. Check that the role has the permissions to pull images from the registry. ",
	},
	{
		regexp.MustCompile(`denied: requested access to the resource is denied`),
		"The task can’t pull the image. Check whether the image exists. ",
	},
	{
		regexp.MustCompile(`request canceled while waiting for connection`),
		"The task can’t pull the image. Check your network configuration. ",
	},
}

// failPull makes the error of a failed question to a registry, or of a failed
// fetch, in words that a user understands and that hold no signed address.
func (r *Runtime) failPull(ctx context.Context, kind container.Kind, named reference.Named, err error) error {
	if ended := context.Cause(ctx); ended != nil {
		return ended
	}
	if known, ok := errors.AsType[*container.Error](err); ok {
		return known
	}
	if isUnavailable(err) {
		return r.fail(ctx, kind, "pull image "+named.String(), err)
	}
	c := &cause{words: redact(pullWords(named, err), named)}
	switch code := statusOf(err); {
	case isNoSpace(err):
		c.words += r.fullness(ctx)
		c.kinds = append(c.kinds, container.ErrNoSpace)
	case code == http.StatusNotFound, code == 0 && errdefs.IsNotFound(err):
		c.kinds = append(c.kinds, container.ErrNotFound)
	}
	if kind == container.KindPull {
		for _, a := range advice {
			if a.words.MatchString(c.words) {
				c.words = a.say + c.words
				break
			}
		}
	}
	// The registry's own error is not wrapped: its text may hold what was
	// redacted.
	return &container.Error{Kind: kind, Retry: transient(err), Err: c}
}

// pullWords says what a registry did.
func pullWords(named reference.Named, err error) string {
	if errdefs.IsNotFound(err) && statusOf(err) == 0 {
		return fmt.Sprintf("%s: not found", named)
	}
	if e, ok := errors.AsType[remoteserrors.ErrUnexpectedStatus](err); ok {
		text := fmt.Sprintf("registry %s answered %s", reference.Domain(named), e.Status)
		if said := registrySaid(e.Body); said != "" {
			text += ": " + said
		}
		return text
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Sprintf("cannot find registry %s: %s", reference.Domain(named), dns.Error())
	}
	return clean(err.Error())
}

// registrySaid are the words in a registry's answer, in Docker's form
// "code: message"; "" when it is of no known form.
func registrySaid(body []byte) string {
	var answer struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return ""
	}
	var words []string
	for _, e := range answer.Errors {
		words = append(words, strings.ToLower(strings.ReplaceAll(e.Code, "_", " "))+": "+e.Message)
	}
	return strings.Join(words, "; ")
}

func redact(words string, named reference.Named) string {
	words = secretURL.ReplaceAllString(words, "REDACTED ECR URL related to "+named.String())
	return query.ReplaceAllString(words, "$1")
}
