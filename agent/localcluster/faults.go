package localcluster

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Faults is the body of POST /_berth/faults. Members that are there are set;
// those that are absent stay as they are. The answer, and that of GET, is the
// faults in force.
type Faults struct {
	// MuteHeartbeats stops heartbeats on both websockets.
	MuteHeartbeats *bool `json:"muteHeartbeats,omitempty"`
	// HoldPayloads keeps new payloads back; those held go out in one message when
	// it is cleared.
	HoldPayloads *bool `json:"holdPayloads,omitempty"`
	// RefuseSubmits answers that many reports of agents with a 500; -1 is all.
	RefuseSubmits *int `json:"refuseSubmits,omitempty"`
	// RefuseConnections refuses websocket upgrades with this exception; "" is none.
	RefuseConnections *string `json:"refuseConnections,omitempty"`
	// SubmitDelayMS delays reports of agents before they count, in milliseconds.
	SubmitDelayMS *int `json:"submitDelayMs,omitempty"`
	// AckDelayMS delays the telemetry acks, in milliseconds.
	AckDelayMS *int `json:"ackDelayMs,omitempty"`
	// Once is done at once and is not kept.
	Once
}

// Once is what a fault does a single time, to every open session.
type Once struct {
	// DropACS and DropTCS cut the TCP connections.
	DropACS bool `json:"dropAcs,omitempty"`
	DropTCS bool `json:"dropTcs,omitempty"`
	// CloseACS and CloseTCS close the websockets with this code.
	CloseACS int `json:"closeAcs,omitempty"`
	CloseTCS int `json:"closeTcs,omitempty"`
	// Garbage is sent as a text frame on ACS, whatever it is: a broken one, or a
	// message that this service has no other way to send.
	Garbage string `json:"garbage,omitempty"`
	// Redeliver sends the last payload of each ACS session again.
	Redeliver bool `json:"redeliver,omitempty"`
	// Manifest sends a task manifest on each ACS session.
	Manifest bool `json:"manifest,omitempty"`
}

// faults is what goes wrong on purpose at the moment.
type faults struct {
	mu  sync.Mutex // Guards now.
	now Faults
}

func (f *faults) set(in Faults) Faults {
	f.mu.Lock()
	defer f.mu.Unlock()
	override(&f.now.MuteHeartbeats, in.MuteHeartbeats)
	override(&f.now.HoldPayloads, in.HoldPayloads)
	override(&f.now.RefuseSubmits, in.RefuseSubmits)
	override(&f.now.RefuseConnections, in.RefuseConnections)
	override(&f.now.SubmitDelayMS, in.SubmitDelayMS)
	override(&f.now.AckDelayMS, in.AckDelayMS)
	return f.now
}

func override[T any](at **T, value *T) {
	if value != nil {
		*at = value
	}
}

func valueOf[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func (f *faults) inForce() Faults {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *faults) mute() bool { return valueOf(f.inForce().MuteHeartbeats) }

func (f *faults) hold() bool { return valueOf(f.inForce().HoldPayloads) }

func (f *faults) refuseConnection() string { return valueOf(f.inForce().RefuseConnections) }

func (f *faults) ackDelay() time.Duration {
	return time.Duration(valueOf(f.inForce().AckDelayMS)) * time.Millisecond
}

// holdSubmit waits as long as a report is to be delayed.
func (f *faults) holdSubmit(ctx context.Context) {
	delay := valueOf(f.inForce().SubmitDelayMS)
	if delay <= 0 {
		return
	}
	timer := time.NewTimer(time.Duration(delay) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// refuseSubmit counts one report against the refusals that are left.
func (f *faults) refuseSubmit() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := valueOf(f.now.RefuseSubmits)
	if left > 0 {
		f.now.RefuseSubmits = new(left - 1)
	}
	return left != 0
}

// Fault sets faults, as POST /_berth/faults does, and gives those in force.
func (s *Server) Fault(in Faults) Faults {
	out := s.faults.set(in)
	for _, c := range []struct {
		wanted bool
		acs    bool
		do     command
	}{
		{in.Garbage != "", true, command{raw: in.Garbage}},
		{in.Redeliver, true, command{again: true}},
		{in.Manifest, true, command{manifest: true}},
		{in.CloseACS != 0, true, command{close: in.CloseACS}},
		{in.CloseTCS != 0, false, command{close: in.CloseTCS}},
		{in.DropACS, true, command{drop: true}},
		{in.DropTCS, false, command{drop: true}},
	} {
		table := s.hub.tcs
		if c.acs {
			table = s.hub.acs
		}
		if c.wanted {
			s.hub.broadcast(table, c.do)
		}
	}
	s.hub.wake()
	return out
}

func (s *Server) serveFaults(w http.ResponseWriter, r *http.Request) {
	var in Faults
	if r.Method == http.MethodPost {
		decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		decoder.DisallowUnknownFields() // A fault that is misspelt would never happen.
		if err := decoder.Decode(&in); err != nil {
			http.Error(w, "cannot read faults: "+err.Error(), http.StatusBadRequest)
			return
		}
		s.log.Info("faults set", zap.Any("faults", in))
	}
	s.writeJSON(w, s.Fault(in))
}

func (s *Server) writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.log.Debug("cannot write answer", zap.Error(err))
	}
}
