package update

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// versionForm is what may name a directory and a release: 1.2.3, 1.2.3-rc.1, and what a package appends.
func versionForm() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9]+(\.[0-9]+){2}([-+~][0-9A-Za-z.+~-]+)?$`)
}

// CheckVersion says whether v can name a version; a leading v is none of it.
func CheckVersion(v string) error {
	if len(v) > 64 || !versionForm().MatchString(v) || strings.Contains(v, "..") {
		return fmt.Errorf("cannot use version %q: it must be like 1.2.3 or 1.2.3-rc.1", v)
	}
	return nil
}

// Compare orders versions as semantic versioning does: negative when a is older than b. What follows + does not count.
func Compare(a, b string) int {
	numbersA, preA := split(a)
	numbersB, preB := split(b)
	if c := slices.CompareFunc(numbersA, numbersB, identifiers); c != 0 {
		return c
	}
	switch {
	case preA == preB:
		return 0
	case preA == "":
		return 1
	case preB == "":
		return -1
	}
	return slices.CompareFunc(strings.Split(preA, "."), strings.Split(preB, "."), identifiers)
}

// split takes a version apart: its numbers, and the pre-release.
func split(v string) (numbers []string, pre string) {
	v, _, _ = strings.Cut(strings.TrimPrefix(v, "v"), "+")
	if i := strings.IndexAny(v, "-~"); i >= 0 {
		v, pre = v[:i], v[i+1:]
	}
	return strings.Split(v, "."), pre
}

// identifiers compares two parts: numbers by value and before words, words by letter.
func identifiers(a, b string) int {
	x, notX := strconv.ParseUint(a, 10, 64)
	y, notY := strconv.ParseUint(b, 10, 64)
	switch {
	case notX == nil && notY == nil:
		return cmp.Compare(x, y)
	case notX == nil:
		return -1
	case notY == nil:
		return 1
	}
	return strings.Compare(a, b)
}
