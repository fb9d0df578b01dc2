package ctrd

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/berthd/berth/runtime/container"
)

// native translates a gRPC error to containerd's kinds; nil stays nil.
func native(err error) error {
	if err == nil {
		return nil
	}
	return errgrpc.ToNative(err)
}

// cause is an error whose words are for people and whose kind is for errors.Is.
type cause struct {
	words string
	kinds []error
}

func (c *cause) Error() string   { return c.words }
func (c *cause) Unwrap() []error { return c.kinds }

// fail makes the error of a failed step out of containerd's. doing completes
// "cannot ..." and is left out of what ECS shows; a context that has ended
// speaks for itself.
func (r *Runtime) fail(ctx context.Context, kind container.Kind, doing string, err error) error {
	if err == nil {
		return nil
	}
	if ended := context.Cause(ctx); ended != nil && (isContextError(err) || errors.Is(err, ended)) {
		return ended
	}
	if known, ok := errors.AsType[*container.Error](err); ok {
		return known
	}
	c := &cause{words: clean(err.Error())}
	retry := false
	switch {
	case isUnavailable(err):
		c.words = fmt.Sprintf("cannot %s: containerd does not answer at %s", doing, r.cfg.Address)
		c.kinds = append(c.kinds, container.ErrUnavailable)
		retry = true
	case isNoSpace(err):
		c.kinds = append(c.kinds, container.ErrNoSpace)
	case errors.Is(err, container.ErrNotFound), errors.Is(err, container.ErrNotRunning), errors.Is(err, container.ErrTimeout):
	case isLate(err):
		c.words = fmt.Sprintf("cannot %s: containerd did not finish in time", doing)
		c.kinds = append(c.kinds, container.ErrTimeout)
		retry = true
	}
	c.kinds = append(c.kinds, err)
	return &container.Error{Kind: kind, Retry: retry, Err: c}
}

// absent is the error for a container that does not exist.
func absent(kind container.Kind, id string) error {
	return container.Errorf(kind, "no such container %s: %w", id, container.ErrNotFound)
}

// notRunning is the error for a container that exists and does not run.
func notRunning(kind container.Kind, id string) error {
	return container.Errorf(kind, "container %s: %w", id, container.ErrNotRunning)
}

// isLate: containerd passes a shim's on in words only.
func isLate(err error) bool {
	return errdefs.IsDeadlineExceeded(err) || errors.Is(err, context.DeadlineExceeded) ||
		strings.Contains(err.Error(), context.DeadlineExceeded.Error())
}

func isContextError(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errdefs.IsCanceled(err) || errdefs.IsDeadlineExceeded(err) {
		return true
	}
	code := status.Code(err)
	return code == codes.Canceled || code == codes.DeadlineExceeded
}

func isUnavailable(err error) bool {
	// errdefs calls a locked content reference unavailable too; only a broken
	// connection is meant here.
	if strings.Contains(err.Error(), "error while dialing") || strings.Contains(err.Error(), "error reading from server") ||
		strings.Contains(err.Error(), "client connection is closing") || strings.Contains(err.Error(), "ttrpc: closed") {
		return true
	}
	return status.Code(err) == codes.Unavailable || (errdefs.IsUnavailable(err) && isConnection(err.Error()))
}

// isConnection: gRPC speaks of the connection, among others of one that containerd
// accepted and died before it said hello, or that it drains as it ends.
func isConnection(words string) bool {
	return strings.Contains(words, "transport") || strings.Contains(words, "connection error: desc = ") ||
		strings.Contains(words, "the connection is draining")
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, container.ErrNoSpace) ||
		strings.Contains(err.Error(), "no space left on device") || strings.Contains(err.Error(), "disk quota exceeded")
}

// noise is what containerd, its shim, runc and gRPC put before and behind the
// cause.
var (
	noise = regexp.MustCompile(`rpc error: code = \w+ desc = |` +
		`failed to create task for container: |failed to create shim task: |failed to start shim: |` +
		`OCI runtime (create|start|exec|kill|state|delete) failed: |runc (create|start|exec|kill|delete|run) failed: |` +
		`unable to (start|create) container process: |error during container init: |` +
		`failed to exec in container: |failed to start exec "[^"]*": `)
	tail = regexp.MustCompile(`(: (unknown|not found|invalid argument|already exists|failed precondition|permission denied))+$`)
)

// clean strips noise from an error's words. The sense of the last words is kept
// in the error's kind, not in its text.
func clean(words string) string {
	words = strings.TrimSpace(noise.ReplaceAllString(words, ""))
	// runc's own "no such file or directory" and its like stay.
	if short := tail.ReplaceAllString(words, ""); short != "" && short != words && strings.Contains(short, ":") {
		words = short
	}
	return words
}
