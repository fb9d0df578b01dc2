package taskmeta

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/berthd/berth/agent/task"
)

// serveV2 serves what is below /v2/: version 2 knows its callers by their
// address. As with the ECS agent those are the tasks in awsvpc mode; the others
// have been given the addresses of versions 3 and 4.
func (s *Server) serveV2(w http.ResponseWriter, r *http.Request, rest string) {
	rest, id, below := strings.Cut(rest, "/")
	if strings.Contains(id, "/") || (rest == "metadataWithTags" && below && id != "") {
		http.NotFound(w, r)
		return
	}
	switch rest {
	case "metadata", "metadataWithTags", "stats":
	default:
		http.NotFound(w, r)
		return
	}
	ip := callerOf(r).client.Addr()
	t, _, known := s.cfg.Index.At(ip)
	if !known || t.definition().Network != task.NetworkAWSVPC {
		writeJSON(w, http.StatusBadRequest, fmt.Sprintf(
			"Unable to get task arn from request: unable to associate '%s' with task", ip))
		return
	}
	switch {
	case rest == "stats" && id != "":
		s.statsV2(w, t, id)
	case rest == "stats":
		writeJSON(w, http.StatusOK, s.allStats(t, v2))
	case id != "":
		i := withRuntimeID(t, id)
		if i < 0 {
			writeJSON(w, http.StatusBadRequest, fmt.Sprintf("Unable to generate metadata for container '%s'", id))
			return
		}
		writeJSON(w, http.StatusOK, s.describer(v2).container(t, i))
	default:
		d := s.describer(v2)
		out := d.task(t)
		if rest == "metadataWithTags" {
			d.withTags(r.Context(), s.tags, &out, "")
		}
		writeJSON(w, http.StatusOK, out)
	}
}

func (s *Server) statsV2(w http.ResponseWriter, t *Task, id string) {
	refuse := func() { writeJSON(w, http.StatusBadRequest, "Unable to get container stats for: "+id) }
	i := withRuntimeID(t, id)
	if i < 0 {
		refuse()
		return
	}
	got, err := s.containerStats(id, t.definition().RuntimeName(t.State.Containers[i].Name), v2)
	if err != nil {
		refuse()
		return
	}
	writeJSON(w, http.StatusOK, got)
}

// withRuntimeID is the place of a container in its task, -1 for none.
func withRuntimeID(t *Task, id string) int {
	return slices.IndexFunc(t.State.Containers, func(c task.ContainerState) bool { return id != "" && c.RuntimeID == id })
}
