package ecs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// FieldError says which member of a message is not acceptable, and why. Field
// is a path such as containerDefinitions[0].portMappings[1].hostPort.
type FieldError struct {
	Field  string
	Reason string
}

// Error gives "field: reason".
func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }

func fault(field, format string, args ...any) error {
	return &FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// first returns the first check that fails. Checks run in order, so a later one
// may rely on what an earlier one established.
func first(checks ...func() error) error {
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// each checks every element of a list and gives the check the element's path.
func each[T any](list []T, field string, check func(T, string) error) error {
	for i, element := range list {
		if err := check(element, fmt.Sprintf("%s[%d]", field, i)); err != nil {
			return err
		}
	}
	return nil
}

func oneOf(value, field string, words ...string) error {
	if slices.Contains(words, value) {
		return nil
	}
	return fault(field, "%q is not one of %s", value, strings.Join(slices.DeleteFunc(slices.Clone(words), func(s string) bool { return s == "" }), ", "))
}

// within checks an optional number against its bounds.
func within(value *int, field string, low, high int) error {
	if value != nil && (*value < low || *value > high) {
		return fault(field, "%d is not between %d and %d", *value, low, high)
	}
	return nil
}

// name checks an identifier: letters, digits, hyphens and underscores.
func name(value, field string) error {
	if value == "" {
		return fault(field, "must not be empty")
	}
	if len(value) > 255 {
		return fault(field, "is longer than 255 characters")
	}
	for _, r := range value {
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", r) {
			return fault(field, "%q may have letters, digits, hyphens and underscores only", value)
		}
	}
	return nil
}

func required(value, field string) error {
	if value == "" {
		return fault(field, "must not be empty")
	}
	return nil
}

// ParseCPU reads a task-level CPU limit: CPU units ("512") or "0.5 vCPU". It
// gives CPU units, 1024 per vCPU, and 0 for "".
func ParseCPU(s string) (int, error) {
	return parseAmount(s, "vcpu", 1024)
}

// ParseMemory reads a task-level memory limit: MiB ("512") or "0.5 GB". It gives
// MiB, and 0 for "".
func ParseMemory(s string) (int, error) {
	return parseAmount(s, "gb", 1024)
}

func parseAmount(s, unit string, factor float64) (int, error) {
	if s == "" {
		return 0, nil
	}
	text := strings.ToLower(strings.TrimSpace(s))
	if number, ok := strings.CutSuffix(text, unit); ok {
		value, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(value > 0 && value <= 1<<20) {
			return 0, fmt.Errorf("cannot read %q: need a positive number before %s", s, unit)
		}
		return int(value*factor + 0.5), nil
	}
	value, err := strconv.Atoi(text)
	if err != nil || value <= 0 || value > 1<<30 {
		return 0, fmt.Errorf("cannot read %q: need a positive whole number, or a number with %s", s, unit)
	}
	return value, nil
}

// ParsePortRange reads "first-last", both within 1 and 65535 and in order.
func ParsePortRange(s string) (int, int, error) {
	low, high, ok := strings.Cut(s, "-")
	from, errFrom := strconv.Atoi(low)
	to, errTo := strconv.Atoi(high)
	if !ok || errFrom != nil || errTo != nil || from < 1 || to > 65535 || from > to {
		return 0, 0, fmt.Errorf("cannot read %q: need first-last between 1 and 65535", s)
	}
	return from, to, nil
}

// Validate checks what the service requires of a report.
func (r *SubmitTaskStateChangeRequest) Validate() error {
	return first(
		func() error { return required(r.Task, "task") },
		func() error {
			if r.Status == "" && len(r.Attachments) > 0 {
				return nil
			}
			return oneOf(r.Status, "status", StatusPending, StatusRunning, StatusStopped)
		},
		func() error { return atMost(r.Reason, "reason", MaxReason) },
		func() error {
			return each(r.Containers, "containers", func(c ContainerStateChange, at string) error { return c.validate(at) })
		},
		func() error { return each(r.Attachments, "attachments", validateAttachment) },
		func() error {
			return each(r.ManagedAgents, "managedAgents", func(m ManagedAgentStateChange, at string) error {
				return first(
					func() error { return required(m.ContainerName, at+".containerName") },
					func() error { return required(m.ManagedAgentName, at+".managedAgentName") },
					func() error { return required(m.Status, at+".status") },
					func() error { return atMost(m.Reason, at+".reason", MaxReason) },
				)
			})
		},
	)
}

// Validate checks what the service requires of a report.
func (r *SubmitAttachmentStateChangesRequest) Validate() error {
	if len(r.Attachments) == 0 {
		return fault("attachments", "must not be empty")
	}
	return each(r.Attachments, "attachments", validateAttachment)
}

func validateAttachment(a AttachmentStateChange, at string) error {
	return first(
		func() error { return required(a.AttachmentARN, at+".attachmentArn") },
		func() error { return required(a.Status, at+".status") },
	)
}

func atMost(value, field string, limit int) error {
	if len(value) > limit {
		return fault(field, "is %d bytes, more than %d", len(value), limit)
	}
	return nil
}

func (c *ContainerStateChange) validate(at string) error {
	return first(
		func() error { return required(c.ContainerName, at+".containerName") },
		func() error {
			return oneOf(c.Status, at+".status", StatusPending, StatusRunning, StatusStopped)
		},
		func() error { return atMost(c.Reason, at+".reason", MaxReason) },
		func() error { return atMost(c.RuntimeID, at+".runtimeId", MaxRuntimeID) },
		func() error { return atMost(c.ImageDigest, at+".imageDigest", MaxImageDigest) },
	)
}

// Validate checks what the service requires of a registration.
func (r *RegisterContainerInstanceRequest) Validate() error {
	return first(
		func() error {
			return each(r.TotalResources, "totalResources", func(res Resource, at string) error {
				return first(
					func() error { return required(res.Name, at+".name") },
					func() error {
						return oneOf(res.Type, at+".type", ResourceTypeInteger, ResourceTypeLong, ResourceTypeDouble, ResourceTypeStringSet)
					},
				)
			})
		},
		func() error {
			return each(r.Attributes, "attributes", func(a Attribute, at string) error { return required(a.Name, at+".name") })
		},
		func() error {
			return each(r.PlatformDevices, "platformDevices", func(d PlatformDevice, at string) error {
				return first(
					func() error { return required(d.ID, at+".id") },
					func() error { return required(d.Type, at+".type") },
				)
			})
		},
	)
}
