package standin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

var errUsage = errors.New("usage: see the package comment of agent/e2e/standin")

// Do carries out a command of the program, and answers with what it prints.
func (s *Server) Do(args []string) (string, error) {
	if len(args) == 0 {
		return "", errUsage
	}
	verb, args := args[0], args[1:]
	need := map[string][2]int{
		"parameter": {3, 3}, "secret": {3, 5}, "object": {3, 3}, "login": {3, 3}, "metadata": {1, 2},
		"fault": {2, 3}, "calls": {1, 1}, "logs": {2, 2}, "key": {4, 4},
	}[verb]
	if len(args) < need[0] || len(args) > need[1] || need[1] == 0 {
		return "", errUsage
	}
	args = slices.Concat(args, make([]string, need[1]-len(args)))
	switch verb {
	case "parameter":
		s.PutParameter(args[0], args[1], args[2])
	case "secret":
		s.PutSecret(args[0], args[1], args[2], args[3], args[4])
	case "object":
		bucket, key, ok := strings.Cut(args[1], "/")
		if !ok {
			return "", errUsage
		}
		s.PutObject(args[0], bucket, key, []byte(args[2]))
	case "login":
		s.Login(args[0], args[1], args[2])
	case "metadata":
		s.PutMetadata(args[0], args[1])
	case "key":
		s.PutKey(args[0], Key{SecretAccessKey: args[1], SessionToken: args[2], Role: args[3]})
	case "fault":
		times, _ := strconv.Atoi(args[2]) // None given is for good.
		return "", s.Fault(args[0], args[1], times)
	case "calls":
		var out strings.Builder
		for _, c := range s.Calls(args[0]) {
			_, _ = fmt.Fprintln(&out, c)
		}
		return out.String(), nil
	case "logs":
		var out strings.Builder
		for _, e := range s.Log(args[0], args[1]) {
			_, _ = fmt.Fprintln(&out, e.Message)
		}
		return out.String(), nil
	}
	return "", nil
}

// serveControl takes commands as a JSON list.
func (s *Server) serveControl(w http.ResponseWriter, r *http.Request) {
	var args []string
	if r.Method == http.MethodGet {
		_, _ = w.Write([]byte("ready\n")) // The client may have left.
		return
	}
	if err := json.NewDecoder(r.Body).Decode(&args); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out, err := s.Do(args)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = w.Write([]byte(out)) // The client may have left.
}
