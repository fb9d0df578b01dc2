package main

import (
	"fmt"
	"maps"
	"regexp"
	"strings"

	"github.com/berthd/berth/runtime/logs/forwardtest"
)

// routes are what a configuration says.
type routes struct {
	listen  []address
	filters []filter
	outputs []output
	// first says that an event goes to the first output that matches, as in
	// Fluentd, and not to all.
	first bool
	out   printer
}

type address struct{ network, address string }

type filter struct {
	match            *regexp.Regexp
	include, exclude *regexp.Regexp // of the field log
	add              map[string]string
}

type output struct {
	match   *regexp.Regexp
	plugin  string
	options map[string]string
}

// newRoutes makes sense of the sections, or says what is wrong with one.
func newRoutes(conf []section) (*routes, error) {
	r := &routes{}
	for _, s := range conf {
		var err error
		switch s.kind {
		case "input":
			err = r.input(s)
		case "filter":
			err = r.filter(s)
		case "output":
			err = r.output(s)
		default:
			err = fmt.Errorf("there is no section %s", s.kind)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %v: %w", s.kind, s.values, err)
		}
		r.first = r.first || s.fluentd
	}
	if len(r.listen) == 0 {
		return nil, fmt.Errorf("there is no input")
	}
	return r, nil
}

func (r *routes) input(s section) error {
	switch s.plugin {
	case "forward", "unix":
		if path := s.take("unix_path", "path"); path != "" {
			r.listen = append(r.listen, address{"unix", path})
		} else {
			r.listen = append(r.listen, address{"tcp", s.take("Listen", "bind") + ":" + s.take("Port", "port")})
		}
		s.take("Mem_Buf_Limit")
	case "tcp":
		s.take("Tag")
		r.listen = append(r.listen, address{"tcp", s.take("Listen") + ":" + s.take("Port")})
	default:
		return fmt.Errorf("there is no input %q", s.plugin)
	}
	return s.rest()
}

func (r *routes) filter(s section) (err error) {
	f := filter{match: s.matcher(), add: map[string]string{}}
	switch s.plugin {
	case "grep":
		for _, p := range []struct {
			to  **regexp.Regexp
			key string
		}{{&f.include, "Regex"}, {&f.exclude, "Exclude"}} {
			text := s.take(p.key)
			if text == "" {
				continue
			}
			pattern, ok := strings.CutPrefix(text, "log ")
			if !ok {
				return fmt.Errorf("%s is of another field: %s", p.key, text)
			}
			if *p.to, err = regexp.Compile(pattern); err != nil {
				return err
			}
		}
	case "record_modifier", "record_transformer":
		maps.Copy(f.add, s.records)
	default:
		return fmt.Errorf("there is no filter %q", s.plugin)
	}
	r.filters = append(r.filters, f)
	return s.rest()
}

func (r *routes) output(s section) error {
	if s.plugin != "stdout" && s.plugin != "null" {
		return fmt.Errorf("there is no output %q", s.plugin)
	}
	r.outputs = append(r.outputs, output{match: s.matcher(), plugin: s.plugin, options: s.values})
	return nil
}

// take routes an event.
func (r *routes) take(e forwardtest.Record) {
	for _, f := range r.filters {
		if !f.match.MatchString(e.Tag) {
			continue
		}
		if log := e.Fields["log"]; f.include != nil && !f.include.MatchString(log) || f.exclude != nil && f.exclude.MatchString(log) {
			return
		}
		maps.Copy(e.Fields, f.add)
	}
	for _, o := range r.outputs {
		if !o.match.MatchString(e.Tag) {
			continue
		}
		if o.plugin == "stdout" {
			r.out.print(e, o.options)
		}
		if r.first {
			return
		}
	}
}
