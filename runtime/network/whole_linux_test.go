package network

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestWhole(t *testing.T) {
	interrupted := fmt.Errorf("list: %w", netlink.ErrDumpInterrupted)
	other := errors.New("other")
	for _, tt := range []struct {
		name  string
		fails []error
		err   error
		asked int
	}{
		{"at once", nil, nil, 1},
		{"after changes", []error{interrupted, interrupted}, nil, 3},
		{"another error", []error{other}, other, 1},
		{"it never stands still", slices.Repeat([]error{interrupted}, wholeTries+1), netlink.ErrDumpInterrupted, wholeTries},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked := 0
			got, err := whole(func() ([]int, error) {
				asked++
				if asked <= len(tt.fails) {
					return []int{0}, tt.fails[asked-1]
				}
				return []int{1, 2}, nil
			})
			if !errors.Is(err, tt.err) || asked != tt.asked || err == nil && !slices.Equal(got, []int{1, 2}) {
				t.Errorf("%v, %v after %d, want error %v after %d", got, err, asked, tt.err, tt.asked)
			}
		})
	}
}
