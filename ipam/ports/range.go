package ports

import (
	"fmt"
	"strconv"
	"strings"
)

// Range is a run of host ports, both ends included. The zero value stands for the last resort 49153-65535.
type Range struct {
	First uint16 `json:"first"`
	Last  uint16 `json:"last"`
}

// Fallback is the dynamic range where neither ECS_DYNAMIC_HOST_PORT_RANGE nor the kernel names one (host §3.2).
func Fallback() Range { return Range{First: 49153, Last: 65535} }

// ParseRange reads "32768-60999", the form of ECS_DYNAMIC_HOST_PORT_RANGE, or "32768\t60999", the form of the kernel's
// /proc/sys/net/ipv4/ip_local_port_range. Its errors are [ErrBadRange].
func ParseRange(s string) (Range, error) {
	first, last, ok := strings.Cut(strings.TrimSpace(s), "-")
	if !ok {
		fields := strings.Fields(s)
		if len(fields) != 2 {
			return Range{}, fmt.Errorf("%w: %q is not of the form first-last", ErrBadRange, s)
		}
		first, last = fields[0], fields[1]
	}
	lo, err := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
	if err != nil {
		return Range{}, fmt.Errorf("%w: %q: %w", ErrBadRange, s, err)
	}
	hi, err := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
	if err != nil {
		return Range{}, fmt.Errorf("%w: %q: %w", ErrBadRange, s, err)
	}
	r := Range{First: uint16(lo), Last: uint16(hi)}
	if err := r.Validate(); err != nil {
		return Range{}, err
	}
	return r, nil
}

// Validate tells whether the range has a port and does not begin at 0. Its errors are [ErrBadRange].
func (r Range) Validate() error {
	if r.First == 0 || r.Last < r.First {
		return fmt.Errorf("%w: %v", ErrBadRange, r)
	}
	return nil
}

// String returns the form 32768-60999.
func (r Range) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

func (r Range) size() int { return int(r.Last) - int(r.First) + 1 }
