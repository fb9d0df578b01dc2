package taskmeta

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/berthd/berth/agent/task"
)

// request is one for versions 3 and 4: a container's id and the version.
type request struct {
	id      string
	version version
}

// failed is the status of a question about statistics or associations, or a task
// or container, that has no answer: the two versions differ (spec/host.md §1.11).
type failed struct{ v3, v4 int }

func (f failed) of(v version) int {
	if v == v4 {
		return f.v4
	}
	return f.v3
}

// serveID serves what is below /v3/ID and /v4/ID.
func (s *Server) serveID(w http.ResponseWriter, r *http.Request, q request, tail string) {
	switch tail {
	case "":
		s.container(w, q)
		return
	case "/task":
		s.task(w, r, q, false)
		return
	case "/taskWithTags":
		s.task(w, r, q, true)
		return
	case "/stats":
		s.stats(w, q)
		return
	case "/task/stats":
		s.taskStats(w, q)
		return
	}
	if kind, ok := strings.CutPrefix(tail, "/associations/"); ok && kind != "" {
		kind, name, single := strings.Cut(kind, "/")
		if !strings.Contains(name, "/") {
			s.associations(w, q, association{kind, name, single})
			return
		}
	}
	http.NotFound(w, r)
}

// unknownID refuses an id that no container has. what is "container metadata"
// and the like.
func unknownID(w http.ResponseWriter, q request, what string, f failed) {
	ask, found := "container ID", "docker ID"
	if strings.HasPrefix(what, "task ") {
		ask, found = "task arn", "task Arn"
	}
	writeJSON(w, f.of(q.version), fmt.Sprintf(
		"V%d %s handler: unable to get %s from request: unable to get %s from v3 endpoint ID: %s", q.version, what, ask, found, q.id))
}

// find is the task of an id, and the place of the container in it. A container
// is found once it exists in the runtime.
func (s *Server) find(q request) (t *Task, i int, created bool) {
	t, name, ok := s.cfg.Index.Container(q.id)
	if !ok {
		return nil, 0, false
	}
	i = slices.IndexFunc(t.State.Containers, func(c task.ContainerState) bool { return c.Name == name })
	return t, i, i >= 0 && t.State.Containers[i].RuntimeID != ""
}

func (s *Server) container(w http.ResponseWriter, q request) {
	t, i, created := s.find(q)
	if !created {
		unknownID(w, q, "container metadata", failed{http.StatusInternalServerError, http.StatusNotFound})
		return
	}
	writeJSON(w, http.StatusOK, s.describer(q.version).container(t, i))
}

func (s *Server) task(w http.ResponseWriter, r *http.Request, q request, tags bool) {
	t, i, _ := s.find(q)
	if t == nil {
		unknownID(w, q, "task metadata", failed{http.StatusInternalServerError, http.StatusNotFound})
		return
	}
	d := s.describer(q.version)
	out := d.task(t)
	if tags {
		d.withTags(r.Context(), s.tags, &out, t.definition().Containers[i].Name)
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Server) stats(w http.ResponseWriter, q request) {
	status := failed{http.StatusBadRequest, http.StatusInternalServerError}
	t, i, created := s.find(q)
	if !created {
		unknownID(w, q, "container stats", failed{http.StatusBadRequest, http.StatusNotFound})
		return
	}
	c := &t.State.Containers[i]
	got, err := s.containerStats(c.RuntimeID, t.definition().RuntimeName(c.Name), q.version)
	switch {
	case err != nil:
		writeJSON(w, status.of(q.version), "Unable to get container stats for: "+c.RuntimeID)
	case got == nil && q.version == v4:
		writeJSON(w, http.StatusOK, struct{}{})
	default:
		writeJSON(w, http.StatusOK, got)
	}
}

func (s *Server) taskStats(w http.ResponseWriter, q request) {
	t, _, _ := s.find(q)
	if t == nil {
		unknownID(w, q, "task stats", failed{http.StatusBadRequest, http.StatusNotFound})
		return
	}
	writeJSON(w, http.StatusOK, s.allStats(t, q.version))
}

// allStats are those of a task's containers by id. One without a reading has an
// empty entry.
func (s *Server) allStats(t *Task, v version) map[string]any {
	out := map[string]any{}
	for i := range t.State.Containers {
		c := &t.State.Containers[i]
		if c.RuntimeID == "" {
			continue
		}
		got, err := s.containerStats(c.RuntimeID, t.definition().RuntimeName(c.Name), v)
		switch {
		case err == nil && got != nil:
			out[c.RuntimeID] = got
		case v == v4:
			out[c.RuntimeID] = struct{}{}
		default:
			out[c.RuntimeID] = nil
		}
	}
	return out
}

// association is what is asked of them: the names of a kind, or one's content.
type association struct {
	kind, name string
	single     bool
}

func (s *Server) associations(w http.ResponseWriter, q request, a association) {
	bad := failed{http.StatusBadRequest, http.StatusBadRequest}
	t, i, created := s.find(q)
	if !created {
		what := "container associations"
		if a.single {
			what = "container association"
		}
		unknownID(w, q, what, bad)
		return
	}
	name := t.definition().Containers[i].Name
	names := associations{}
	for _, has := range t.definition().Associations {
		if has.Type != a.kind || !slices.Contains(has.Containers, name) {
			continue
		}
		if a.single && has.Name == a.name {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(has.Content)) // Verbatim, by spec/host.md §1.12.
			return
		}
		names.Associations = append(names.Associations, has.Name)
	}
	if a.single {
		writeJSON(w, http.StatusBadRequest, fmt.Sprintf("Unable to get association value for association type '%s' and name '%s'", a.kind, a.name))
		return
	}
	writeJSON(w, http.StatusOK, names)
}
