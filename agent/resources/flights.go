package resources

import (
	"context"
	"errors"

	"golang.org/x/sync/singleflight"

	"github.com/berthd/berth/runtime/container"
)

// flights lets those who ask for the same at once have one answer. The zero value
// is good.
type flights struct{ group singleflight.Group }

// errLeft: whoever asked has left, and nobody knows the answer.
var errLeft = errors.New("whoever asked has left")

// do calls fetch, or waits for the call that is under way for the same key. It
// runs in the caller's goroutine: when that caller leaves, those who wait ask
// again themselves.
func (f *flights) do(ctx context.Context, key string, fetch func(ctx context.Context) (*container.Auth, error)) (*container.Auth, error) {
	for {
		var own bool
		v, err, _ := f.group.Do(key, func() (any, error) {
			own = true
			auth, err := fetch(ctx)
			if err != nil && ctx.Err() != nil {
				return (*container.Auth)(nil), errLeft
			}
			return auth, err
		})
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, errLeft) && !own:
			continue
		}
		auth, _ := v.(*container.Auth)
		return auth, err
	}
}
