package hostapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/config"
)

// maxBody is the longest request body there is: a task definition is at most 64 KiB for ECS.
const maxBody = 1 << 20

// answered serves what a question is answered with, or its error.
func answered(ask func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := ask(r)
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, v)
	}
}

func (s *Server) status(*http.Request) (any, error) {
	if s.p.Instance == nil {
		return nil, notProvided("status")
	}
	return s.p.Instance.Status(), nil
}

// taskList is the answer to GET /v1/tasks; a list is always an object, so that it can grow.
type taskList struct {
	Tasks []TaskView `json:"tasks"`
}

func (s *Server) tasks(*http.Request) (any, error) {
	if s.p.Tasks == nil {
		return nil, notProvided("tasks")
	}
	return taskList{append([]TaskView{}, s.p.Tasks.Tasks()...)}, nil
}

// find answers the one task that ref means.
func (s *Server) find(ref string) (TaskView, error) {
	if s.p.Tasks == nil {
		return TaskView{}, notProvided("tasks")
	}
	return FindTask(s.p.Tasks.Tasks(), ref)
}

// FindTask answers the one task that ref means: its ARN, its id, or enough of the beginning of its id. Its error is an *Error, which
// lists the candidates if there are several.
func FindTask(tasks []TaskView, ref string) (TaskView, error) {
	var found []TaskView
	for _, t := range tasks {
		if t.ID == ref || t.ARN == ref {
			return t, nil
		}
		if ref != "" && strings.HasPrefix(t.ID, ref) {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 0:
		return TaskView{}, &Error{Code: CodeNotFound, Message: fmt.Sprintf("there is no task %q", ref), Hint: "berth ps --all lists the tasks"}
	case 1:
		return found[0], nil
	}
	e := &Error{Code: CodeAmbiguous, Message: fmt.Sprintf("%q is the beginning of %d tasks", ref, len(found)), Hint: "write more of the id"}
	for _, t := range found {
		e.Candidates = append(e.Candidates, t.ID)
	}
	return TaskView{}, e
}

func (s *Server) task(r *http.Request) (any, error) { return s.find(r.PathValue("task")) }

type waitList struct {
	Waits []Wait `json:"waits"`
}

func (s *Server) why(r *http.Request) (any, error) {
	t, err := s.find(r.PathValue("task"))
	if err != nil {
		return nil, err
	}
	waits, err := s.p.Tasks.Why(t.ID)
	return waitList{append([]Wait{}, waits...)}, err
}

func (s *Server) stop(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Reason string `json:"reason"`
	}
	if err := decode(w, r, &body); err != nil {
		writeError(w, err)
		return
	}
	t, err := s.find(r.PathValue("task"))
	if err == nil {
		s.log.Info("stop asked for", caller(r), zap.String("task", t.ID), zap.String("reason", body.Reason))
		err = s.p.Tasks.Stop(r.Context(), t.ID, body.Reason)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusAccepted, struct{}{})
}

// decode reads a JSON body; an empty one leaves v as it is.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return invalid("cannot read request: %s", err)
	}
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, v); err != nil {
		return invalid("cannot read request: %s", err)
	}
	return nil
}

type statsList struct {
	Containers []StatsView `json:"containers"`
}

func (s *Server) stats(*http.Request) (any, error) {
	if s.p.Stats == nil {
		return nil, notProvided("stats")
	}
	return statsList{append([]StatsView{}, s.p.Stats.Stats()...)}, nil
}

type imageList struct {
	Images []ImageView `json:"images"`
}

func (s *Server) images(r *http.Request) (any, error) {
	if s.p.Images == nil {
		return nil, notProvided("images")
	}
	images, err := s.p.Images.Images(r.Context())
	return imageList{append([]ImageView{}, images...)}, err
}

type settingList struct {
	Settings []config.Setting `json:"settings"`
}

func (s *Server) settings(*http.Request) (any, error) {
	if s.p.Settings == nil {
		return nil, notProvided("settings")
	}
	return settingList{s.p.Settings()}, nil
}

// logRequest reads the query of GET /v1/logs.
func logRequest(r *http.Request) (LogRequest, error) {
	q := r.URL.Query()
	req := LogRequest{Container: q.Get("container"), Tail: -1}
	var err error
	if req.Follow, err = flag(r, "follow"); err != nil {
		return req, err
	}
	if req.Container == "" {
		return req, invalid("no container: want ?container=ID")
	}
	if v := q.Get("tail"); v != "" {
		if req.Tail, err = strconv.Atoi(v); err != nil || req.Tail < 0 {
			return req, invalid("cannot use tail=%q: want a number of lines", v)
		}
	}
	if v := q.Get("since"); v != "" {
		if req.Since, err = time.Parse(time.RFC3339Nano, v); err != nil {
			return req, invalid("cannot use since=%q: want a time such as 2026-01-02T15:04:05Z", v)
		}
	}
	return req, nil
}

func flag(r *http.Request, name string) (bool, error) {
	v := r.URL.Query().Get(name)
	if v == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, invalid("cannot use %s=%q: want true or false", name, v)
	}
	return b, nil
}
