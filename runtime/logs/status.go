package logs

import "time"

// Status is one container's figures since the log process started.
type Status struct {
	ID     string `json:"id"`
	Task   string `json:"task,omitempty"`
	Name   string `json:"name,omitempty"`
	Driver string `json:"driver"`
	// Open says that the container's pipes are read. One that is not has ended,
	// and its last lines wait for a log service.
	Open bool `json:"open"`
	// Lines and Bytes were taken from the pipes and kept. Dropped lines were not,
	// for want of room with mode=non-blocking.
	Lines   int64 `json:"lines"`
	Bytes   int64 `json:"bytes"`
	Dropped int64 `json:"dropped"`
	// Waiting is how many bytes are in the pipes, unread.
	Waiting int64 `json:"waiting"`
	// Queued is how many bytes of files wait for the log service, Delivered how
	// many lines it took (several may have gone as one), Rejected how many it will
	// never take. They are those of remote drivers.
	Queued    int64 `json:"queued,omitempty"`
	Delivered int64 `json:"delivered,omitempty"`
	Rejected  int64 `json:"rejected,omitempty"`
	// Failures counts writes that the driver refused; StuckSince is when the
	// series began that has not ended yet (zero: it works), and Reason the last of
	// them.
	Failures   int64     `json:"failures"`
	StuckSince time.Time `json:"stuckSince,omitzero"`
	Reason     string    `json:"reason,omitempty"`
}

// status reads the worker's figures.
func (w *worker) status(st *Status) {
	st.Open = true
	st.Lines, st.Bytes = w.count.lines.Load(), w.count.bytes.Load()
	w.trouble.status(st)
	if r, ok := w.driver.(*ring); ok {
		st.Dropped = r.dropped.count()
		st.Lines -= st.Dropped
	}
	for _, s := range w.streams {
		st.Waiting += s.waiting()
	}
}

// status adds the shipper's figures.
func (s *shipper) status(st *Status) {
	dropped := s.q.tally.count()
	st.Dropped += dropped
	st.Lines = max(0, st.Lines-dropped)
	st.Queued = s.q.backlog()
	st.Delivered, st.Rejected = s.delivered.Load(), s.rejected.count()
	s.trouble.status(st)
}

// status adds failures.
func (t *trouble) status(st *Status) {
	st.Failures += t.failures.Load()
	if st.StuckSince.IsZero() {
		st.StuckSince, st.Reason = t.begun(), t.reason()
	}
}
