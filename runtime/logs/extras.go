package logs

import "cmp"

// tagOf is a container's tag; Docker's default is the short id.
func tagOf(c Container) (string, error) { return expandTag(cmp.Or(c.Options[optTag], "{{.ID}}"), c) }

// extras are the chosen labels and variables.
func extras(c Container) (map[string]string, error) {
	attrs, err := attributes(c)
	delete(attrs, optTag)
	return attrs, err
}
