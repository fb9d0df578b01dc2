package acs

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// level is one step of a path through a JSON document.
type level struct {
	array bool
	// index is the element of an array, key the member of an object.
	index int
	key   string
	// wantKey says that the next string of an object is a key.
	wantKey bool
}

// pathAt is the path of the value that ends at or contains the given offset of
// a JSON document, as "tasks[0].memory". encoding/json says in its errors which
// members it passed but not which elements of a list, and a payload is lists.
func pathAt(data []byte, offset int64) string {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var levels []level
	for {
		tok, err := dec.Token()
		if err != nil {
			return pathOf(levels)
		}
		top := len(levels) - 1
		if top >= 0 && levels[top].wantKey {
			if key, ok := tok.(string); ok {
				levels[top].key, levels[top].wantKey = key, false
				continue
			}
		}
		if d, ok := tok.(json.Delim); ok && (d == '}' || d == ']') {
			levels = levels[:top]
			advance(levels)
			continue
		}
		if dec.InputOffset() >= offset {
			return pathOf(levels)
		}
		switch tok {
		case json.Delim('{'):
			levels = append(levels, level{wantKey: true})
		case json.Delim('['):
			levels = append(levels, level{array: true})
		default:
			advance(levels)
		}
	}
}

// advance moves past a value that has ended.
func advance(levels []level) {
	if len(levels) == 0 {
		return
	}
	l := &levels[len(levels)-1]
	if l.array {
		l.index++
	} else {
		l.wantKey = true
	}
}

func pathOf(levels []level) string {
	var b strings.Builder
	for _, l := range levels {
		switch {
		case l.array:
			b.WriteString("[" + strconv.Itoa(l.index) + "]")
		case b.Len() > 0:
			b.WriteString("." + l.key)
		default:
			b.WriteString(l.key)
		}
	}
	return b.String()
}

// join puts two paths together.
func join(prefix, path string) string {
	switch {
	case prefix == "":
		return path
	case path == "":
		return prefix
	case path[0] == '[':
		return prefix + path
	}
	return prefix + "." + path
}

// at is the path of element i of the list at path.
func at(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
