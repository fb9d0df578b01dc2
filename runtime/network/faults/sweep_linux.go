package faults

import (
	"context"
	"fmt"

	"github.com/google/nftables"
)

// Release ends a task's faults in the host's namespace.
func (f *Faults) Release(ctx context.Context, task string) error {
	if err := f.end(ctx, func(owner string) bool { return owner == task }); err != nil {
		return fmt.Errorf("cannot end the task's network faults: %w", err)
	}
	return nil
}

// Sweep ends the faults in the host's namespace that belong to no known task, and removes what a process that was killed
// left of a fault.
func (f *Faults) Sweep(ctx context.Context, known func(task string) bool) error {
	if err := f.end(ctx, func(owner string) bool { return !known(owner) }); err != nil {
		return fmt.Errorf("cannot end network faults of tasks that are gone: %w", err)
	}
	return nil
}

// end ends the faults of some owners.
func (f *Faults) end(ctx context.Context, of func(owner string) bool) error {
	return f.within(ctx, "", func(s *session) error {
		holes, err := s.chains(nftables.TableFamilyINet)
		if err != nil {
			return err
		}
		var over []string
		for name := range holes {
			owner, err := s.owner(nftables.TableFamilyINet, name)
			if err != nil {
				return err
			}
			if of(owner) {
				over = append(over, name)
			}
		}
		if err := s.stopBlackholes(over...); err != nil {
			return err
		}
		kind, err := s.impairment()
		if err != nil {
			return err
		}
		if kind != "" {
			owner, err := s.owner(nftables.TableFamilyNetdev, kind)
			if err != nil || !of(owner) {
				return err
			}
		}
		return s.clear()
	})
}
