package standin

import (
	"net/http"
	"slices"
	"strings"
)

// LogEvent is a line in CloudWatch Logs; Timestamp is in milliseconds.
type LogEvent struct {
	Timestamp int64  `json:"timestamp"`
	Message   string `json:"message"`
}

// What PutLogEvents takes at most: bytes with 26 for each event, and events.
const (
	maxBatchBytes  = 1 << 20
	maxBatchEvents = 10_000
	eventOverhead  = 26
)

// Log is what was written to a stream.
func (s *Server) Log(group, stream string) []LogEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.streams[group+":"+stream])
}

func (s *Server) serveLogs(w http.ResponseWriter, r *request) {
	var in struct {
		LogGroupName, LogStreamName string
		LogEvents                   []LogEvent
	}
	if err := r.decode(&in); err != nil {
		refuse(w, r.Service, http.StatusBadRequest, "InvalidParameterException", err.Error())
		return
	}
	s.mu.Lock()
	code, message, out := s.logCall(r.Operation, in.LogGroupName, in.LogStreamName, in.LogEvents)
	s.mu.Unlock()
	if code != "" {
		refuse(w, r.Service, http.StatusBadRequest, code, message)
		return
	}
	answer(w, out)
}

// logCall carries out a call. The caller holds the lock.
func (s *Server) logCall(operation, group, stream string, events []LogEvent) (code, message string, out any) {
	const missing = "ResourceNotFoundException"
	id := group + ":" + stream
	out = map[string]any{}
	if operation == "CreateLogGroup" {
		if s.groups[group] {
			return "ResourceAlreadyExistsException", "The specified log group already exists", nil
		}
		s.groups[group] = true
		return "", "", out
	}
	if !s.groups[group] {
		return missing, "The specified log group does not exist.", nil
	}
	have, exists := s.streams[id]
	switch operation {
	case "CreateLogStream":
		if exists {
			return "ResourceAlreadyExistsException", "The specified log stream already exists", nil
		}
		s.streams[id] = nil
		return "", "", out
	case "DescribeLogStreams":
		var names []map[string]string
		for id := range s.streams {
			if name, ok := strings.CutPrefix(id, group+":"); ok {
				names = append(names, map[string]string{"logStreamName": name})
			}
		}
		return "", "", map[string]any{"logStreams": names}
	}
	if !exists {
		return missing, "The specified log stream does not exist.", nil
	}
	size := 0
	for i, e := range events {
		size += len(e.Message) + eventOverhead
		if i > 0 && e.Timestamp < events[i-1].Timestamp {
			return "InvalidParameterException", "Log events in a single PutLogEvents request must be in chronological order.", nil
		}
	}
	if len(events) == 0 || len(events) > maxBatchEvents || size > maxBatchBytes {
		return "InvalidParameterException", "Upload too large, or empty", nil
	}
	s.streams[id] = append(have, events...)
	return "", "", map[string]any{"nextSequenceToken": "standin"}
}
