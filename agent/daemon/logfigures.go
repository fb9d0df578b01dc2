package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/metrics/prom"
	"github.com/berthd/berth/runtime/logs"
)

// logPatience is how long a reader of views and metrics waits for the log process.
const logPatience = 300 * time.Millisecond

// logStatus is how the containers' logs fare, by container; nothing when the log
// process does not answer.
func (h *host) logStatus() map[string]logs.Status {
	ctx, cancel := context.WithTimeoutCause(context.Background(), logPatience, errors.New("log process does not answer"))
	defer cancel()
	list, err := h.logs.Status(ctx)
	if err != nil {
		return nil // Keep says so
	}
	all := make(map[string]logs.Status, len(list))
	for _, st := range list {
		all[st.ID] = st
	}
	return all
}

// addLogs adds how the logs of a task's containers fare.
func addLogs(v *hostapi.TaskView, all map[string]logs.Status) {
	for i := range v.Containers {
		st, ok := all[v.Containers[i].ID]
		if !ok {
			continue
		}
		v.Containers[i].Log = &hostapi.LogView{
			Driver: st.Driver, DroppedLines: st.Dropped, RejectedLines: st.Rejected, WaitingBytes: st.Queued,
			StuckSince: moment(st.StuckSince), Reason: st.Reason,
		}
	}
}

// logFigures are the logs' part of a scrape.
func (h *host) logFigures() (out []prom.Value) {
	for _, st := range h.logStatus() {
		stuck := 0.0
		if !st.StuckSince.IsZero() {
			stuck = 1
		}
		labels := []prom.Label{
			{Name: "container", Value: st.ID},
			{Name: "container_name", Value: st.Name},
			{Name: "driver", Value: st.Driver},
			{Name: "task", Value: st.Task},
		}
		out = append(out,
			prom.Value{Name: "berth_log_lines_total", Help: "Lines taken from the container.", Counter: true, Value: float64(st.Lines), Labels: labels},
			prom.Value{Name: "berth_log_dropped_lines_total", Help: "Lines dropped for want of room.", Counter: true, Value: float64(st.Dropped), Labels: labels},
			prom.Value{Name: "berth_log_rejected_lines_total", Help: "Lines that the log service will never take.", Counter: true, Value: float64(st.Rejected), Labels: labels},
			prom.Value{Name: "berth_log_waiting_bytes", Help: "What waits on disk for the log service.", Value: float64(st.Queued), Labels: labels},
			prom.Value{Name: "berth_log_stuck", Help: "Whether the log driver fails.", Value: stuck, Labels: labels},
		)
	}
	return out
}
