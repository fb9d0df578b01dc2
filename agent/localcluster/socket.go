package localcluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/zap"

	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
)

// writeTimeout is how long an agent may take to accept a frame.
const writeTimeout = 30 * time.Second

// maxFrame is the largest frame that is read: 1 MiB of JSON and its header block.
const maxFrame = 1<<20 + 64<<10

// closing ends a session with a websocket close frame.
type closing struct {
	code websocket.StatusCode
	text string
}

func (c *closing) Error() string { return fmt.Sprintf("closing with %d: %s", c.code, c.text) }

// errDropped ends a session without a close frame.
var errDropped = errors.New("connection dropped by a fault")

// upgrade says who connects.
type upgrade struct {
	instanceARN, clusterARN string
}

// refusedUpgrade is a handshake that is refused with an exception.
type refusedUpgrade struct {
	status     int
	kind, text string
}

func (r *refusedUpgrade) Error() string { return r.kind + ": " + r.text }

// checkUpgrade checks the query and the signature of a websocket upgrade.
func (s *Server) checkUpgrade(r *http.Request, clusterKey, instanceKey string, needed ...string) (*upgrade, error) {
	if kind := s.faults.refuseConnection(); kind != "" {
		return nil, &refusedUpgrade{http.StatusBadRequest, kind, "Refused by a fault that was asked for."}
	}
	if err := s.checkSignature(r, nil); err != nil {
		return nil, &refusedUpgrade{http.StatusForbidden, acs.AccessDeniedException, err.Error()}
	}
	query := r.URL.Query()
	for _, key := range append(needed, instanceKey) {
		if query.Get(key) == "" {
			return nil, &refusedUpgrade{http.StatusBadRequest, acs.BadRequestException, "The query parameter " + key + " is missing."}
		}
	}
	var out *upgrade
	var refusal error
	s.ledger.view(func(st *state) {
		cluster, err := st.cluster(query.Get(clusterKey))
		if err != nil {
			refusal = &refusedUpgrade{http.StatusBadRequest, acs.InvalidClusterException, "Cluster not found."}
			return
		}
		i := st.instance(cluster, query.Get(instanceKey))
		switch {
		case i == nil:
			refusal = &refusedUpgrade{http.StatusBadRequest, acs.InvalidInstanceException, "Container instance not found."}
		case i.Status == ecs.StatusInactive:
			refusal = &refusedUpgrade{http.StatusBadRequest, acs.InactiveInstanceException, "Container instance is inactive."}
		default:
			out = &upgrade{instanceARN: i.ContainerInstanceARN, clusterARN: cluster.ClusterARN}
		}
	})
	return out, refusal
}

// refuseUpgrade answers a handshake in the way of the service (spec
// control-plane §4.2).
func (s *Server) refuseUpgrade(w http.ResponseWriter, r *http.Request, why error) {
	s.log.Info("connection refused", zap.String("path", r.URL.Path), zap.Error(why))
	refused, ok := errors.AsType[*refusedUpgrade](why)
	if !ok {
		refused = &refusedUpgrade{http.StatusInternalServerError, acs.ServerException, why.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(refused.status)
	s.writeJSON(w, map[string]any{"type": refused.kind, "message": map[string]string{"message": refused.text}})
}

// accept finishes an upgrade; on failure it has answered.
func (s *Server) accept(w http.ResponseWriter, r *http.Request) (*websocket.Conn, bool) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled, InsecureSkipVerify: true})
	if err != nil {
		s.log.Info("upgrade failed", zap.String("path", r.URL.Path), zap.Error(err))
		return nil, false
	}
	conn.SetReadLimit(maxFrame)
	return conn, true
}

// pump reads a connection in a goroutine of its own. Reading ends with the
// connection and not with a context, so that a close frame can still go out.
type pump struct {
	frames chan []byte   // Unbuffered: an agent that talks too fast has to wait.
	failed chan error    // One reason, never blocks the reader.
	quit   chan struct{} // Closed when nobody takes frames any more.
	ended  chan struct{} // Closed when the reader is gone.
}

func startPump(ctx context.Context, conn *websocket.Conn) *pump {
	p := &pump{frames: make(chan []byte), failed: make(chan error, 1), quit: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.failed <- p.read(context.WithoutCancel(ctx), conn)
	}()
	return p
}

func (p *pump) read(ctx context.Context, conn *websocket.Conn) error {
	for {
		kind, data, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		if kind != websocket.MessageText {
			return &closing{websocket.StatusUnsupportedData, "frames must be text"}
		}
		select {
		case p.frames <- data:
		case <-p.quit:
			return errClosed
		}
	}
}

// finish ends the connection as its session ended, and waits for the reader.
func (p *pump) finish(conn *websocket.Conn, why error) {
	close(p.quit)
	c, ok := errors.AsType[*closing](why)
	switch {
	case ok:
		_ = conn.Close(c.code, c.text) // The agent may have gone.
	case errors.Is(why, errClosed) || errors.Is(why, context.Canceled):
		_ = conn.Close(websocket.StatusGoingAway, "server is stopping")
	default:
		_ = conn.CloseNow()
	}
	<-p.ended
}

// talker is what a session says and does.
type talker interface {
	receive(ctx context.Context, frame []byte) error
	// woken is called when the state has changed.
	woken(ctx context.Context) error
	command(ctx context.Context, c command) error
	// tick does what is due; nextDue is when something is again.
	tick(ctx context.Context) error
	nextDue() time.Time
}

var (
	_ talker = (*acsSession)(nil)
	_ talker = (*tcsSession)(nil)
)

// talk is the session: one thing at a time until the connection ends.
func (p *pump) talk(ctx context.Context, s *session, t talker) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-p.failed:
			return err
		case frame := <-p.frames:
			err = t.receive(ctx, frame)
		case <-s.wake:
			err = t.woken(ctx)
		case c := <-s.commands:
			err = t.command(ctx, c)
		case <-timer.C:
			err = t.tick(ctx)
		}
		if err != nil {
			return err
		}
		timer.Reset(time.Until(t.nextDue()))
	}
}

func send(ctx context.Context, conn *websocket.Conn, text []byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, writeTimeout, errors.New("agent does not accept a frame"))
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, text)
}

// end is how a command ends the connection; nil if it does not.
func (c command) end() error {
	switch {
	case c.drop:
		return errDropped
	case c.replaced:
		return &closing{websocket.StatusNormalClosure, "another connection of this instance took over"}
	case c.close != 0:
		return &closing{websocket.StatusCode(c.close), "closed by a fault"}
	}
	return nil
}
