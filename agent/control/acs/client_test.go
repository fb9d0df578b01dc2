package acs

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/berthd/berth/agent/control/ws"
	"github.com/berthd/berth/agent/control/wstest"
	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
)

const instanceARN = "arn:aws:ecs:eu-west-1:111122223333:container-instance/blue-fleet/4c1d"

// ids are the members that each message from ECS has.
const ids = `"clusterArn":"` + clusterARN + `","containerInstanceArn":"` + instanceARN + `"`

// world is what a Client talks to besides ECS: Tasks and Sequence.
type world struct {
	mu       sync.Mutex // guards the fields below
	running  []string
	log      []string
	sequence int64
	// broken makes Accept and SaveManifestSequence fail.
	broken bool
}

var (
	_ Tasks    = (*world)(nil)
	_ Sequence = (*world)(nil)
)

func (w *world) Accept(_ context.Context, d task.Definition) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
		return errors.New("the disk is full")
	}
	w.log = append(w.log, "accept "+d.ID)
	if !slices.Contains(w.running, d.ARN) {
		w.running = append(w.running, d.ARN)
	}
	return nil
}

func (w *world) Stop(_ context.Context, arn string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, "stop "+task.IDFromARN(arn))
	w.running = slices.DeleteFunc(w.running, func(a string) bool { return a == arn })
	return nil
}

func (w *world) Reject(_ context.Context, arn, reason string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, "reject "+task.IDFromARN(arn)+" "+reason)
	return nil
}

func (w *world) Running() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.running)
}

func (w *world) ManifestSequence() int64 { return -1 }

func (w *world) SaveManifestSequence(n int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
		return errors.New("the disk is full")
	}
	w.sequence = n
	return nil
}

// taken empties the log.
func (w *world) taken() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.log
	w.log = nil
	return out
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// play runs a Client against a script and ends it when the script returns.
func play(t *testing.T, cfg Config, w *world, script func(c *wstest.Conn)) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	done := errors.New("the script is at its end")
	url := wstest.Serve(t, func(n int, c *wstest.Conn) {
		if n == 0 {
			defer cancel(done)
			script(c)
		}
	})
	cfg.Endpoint = func(context.Context) (string, error) { return url, nil }
	cfg.Cluster, cfg.ContainerInstanceARN = "blue-fleet", instanceARN
	cfg.Tasks, cfg.Sequence = w, w
	if err := New(cfg).Run(ctx); !errors.Is(err, done) {
		t.Errorf("client ended with %v", err)
	}
}

func payload(id, tasks string) string {
	return `{"type":"PayloadMessage","message":{"messageId":"` + id + `",` + ids + `,"seqNum":7,"tasks":[` + tasks + `]}}`
}

func ackOf(id string) string {
	return `{"type":"AckRequest","message":{"cluster":"` + clusterARN + `","containerInstance":"` + instanceARN + `","messageId":"` + id + `"}}`
}

// heartbeat makes sure that everything before was handled.
func heartbeat(c *wstest.Conn, id string) {
	c.Send(`{"type":"HeartbeatMessage","message":{"messageId":"` + id + `","healthy":true}}`)
	c.Expect(`{"type":"HeartbeatAckRequest","message":{"messageId":"` + id + `"}}`)
}

func expectLog(t *testing.T, w *world, want ...string) {
	t.Helper()
	if got := w.taken(); !slices.Equal(got, want) {
		t.Errorf("tasks were told\n     %q\nwant %q", got, want)
	}
}

func running(id string) string {
	return strings.Replace(one(""), "9ab0", id, 1)
}

func TestUpgrade(t *testing.T) {
	cfg := Config{
		AgentVersion: "1.105.1", AgentHash: "0f1e2d3c",
		Service: ws.Service{Sign: func(context.Context, string) (http.Header, error) {
			return http.Header{"Authorization": {"signed"}}, nil
		}},
	}
	play(t, cfg, &world{}, func(c *wstest.Conn) {
		const want = "agentHash=0f1e2d3c&agentVersion=1.105.1&clusterArn=blue-fleet&containerInstanceArn=arn%3Aaws%3Aecs%3Aeu-west-1%3A111122223333%3Acontainer-instance%2Fblue-fleet%2F4c1d&dockerVersion=containerd&protocolVersion=2&sendCredentials=true&seqNum=1"
		if c.Request.URL.Path != "/ws" || c.Request.URL.RawQuery != want {
			t.Errorf("connected to %s?%s", c.Request.URL.Path, c.Request.URL.RawQuery)
		}
		if c.Request.Header.Get("Authorization") != "signed" {
			t.Error("upgrade is not signed")
		}
	})
}

func TestPayload(t *testing.T) {
	w := &world{}
	store := credentials.New()
	play(t, Config{Credentials: store}, w, func(c *wstest.Conn) {
		// Stop before start, and one ack for each set of credentials.
		w.set(func() { w.running = []string{strings.Replace(taskARN, "9ab0", "old", 1)} })
		withKeys := strings.Replace(running("new"), `"desiredStatus"`, `"roleCredentials":{"credentialsId":"k","accessKeyId":"A","expiration":"2025-03-01T18:22:09Z"},"desiredStatus"`, 1)
		c.Send(payload("p1", withKeys+`,{"arn":"`+strings.Replace(taskARN, "9ab0", "old", 1)+`","desiredStatus":"STOPPED"}`))
		c.Expect(ackOf("p1"))
		c.Expect(`{"type":"IAMRoleCredentialsAckRequest","message":{"messageId":"p1","expiration":"2025-03-01T18:22:09Z","credentialsId":"k"}}`)
		expectLog(t, w, "stop old", "accept new")
		if set, state := store.Get("k"); state != credentials.Here || set.TaskARN != strings.Replace(taskARN, "9ab0", "new", 1) {
			t.Errorf("credentials are %s", state)
		}

		// A task that is known is neither converted nor taken on again.
		c.Send(payload("p2", strings.Replace(running("new"), `"image":"i"`, `"image":""`, 1)))
		c.Expect(ackOf("p2"))
		expectLog(t, w)

		// One bad task: it is reported, the other runs, and there is no ack.
		c.Send(payload("p3", `{"arn":"x/bad","desiredStatus":"RUNNING","memory":"much"},`+running("good")))
		heartbeat(c, "h3")
		expectLog(t, w, "reject bad UnrecogniedTaskError: Error loading task - tasks[0].memory: a JSON string does not fit int64", "accept good")

		// One that can be read and never be set up is reported in its own words, and
		// the payload is taken.
		c.Send(payload("p3s", strings.Replace(running("odd"), `"image":"i"`, `"image":"i","links":["ghost"]`, 1)))
		c.Expect(ackOf("p3s"))
		expectLog(t, w, "reject odd could not find container for link ghost")

		// A null task stands against the ack, and so does a disk that is full.
		c.Send(payload("p4", "null"))
		w.set(func() { w.broken = true })
		c.Send(payload("p5", running("later")))
		heartbeat(c, "h5")
		w.set(func() { w.broken = false })
		c.Send(payload("p5", running("later")))
		c.Expect(ackOf("p5"))
		expectLog(t, w, "accept later")

		// What has no id, is of no known type or is no JSON is passed over.
		c.Send(strings.Replace(payload("p6", running("never")), clusterARN, "", 1))
		c.Send(`{"type":"FutureMessage","message":{}}`)
		c.Send(`garbage`)
		heartbeat(c, "h6")
		expectLog(t, w)
	})
}

// TestCredentialsOfTasksThatAreNotHere: every set of a payload is acknowledged,
// and none is kept for a task that nobody will tell the end of.
func TestCredentialsOfTasksThatAreNotHere(t *testing.T) {
	w := &world{}
	store := credentials.New()
	with := func(task, key string) string {
		return strings.Replace(task, `"desiredStatus"`, `"executionRoleCredentials":{"credentialsId":"`+key+`","accessKeyId":"A","expiration":"e"},"desiredStatus"`, 1)
	}
	stop := func(id string) string {
		return `{"arn":"` + strings.Replace(taskARN, "9ab0", id, 1) + `","desiredStatus":"STOPPED"}`
	}
	play(t, Config{Credentials: store}, w, func(c *wstest.Conn) {
		c.Send(payload("p1", with(stop("stranger"), "k1")))
		c.Expect(ackOf("p1"))
		c.Expect(`{"type":"IAMRoleCredentialsAckRequest","message":{"messageId":"p1","expiration":"e","credentialsId":"k1"}}`)
		w.set(func() { w.broken = true })
		c.Send(payload("p2", with(running("later"), "k2")))
		heartbeat(c, "h2")
		if n := store.Len(); n != 0 {
			t.Errorf("%d sets are kept for no task", n)
		}
		w.set(func() { w.broken = false })
		c.Send(payload("p3", with(running("later"), "k3")))
		c.Expect(ackOf("p3"))
		c.Expect(`{"type":"IAMRoleCredentialsAckRequest","message":{"messageId":"p3","expiration":"e","credentialsId":"k3"}}`)
		c.Send(payload("p4", with(stop("later"), "k4")))
		c.Expect(ackOf("p4"))
		c.Expect(`{"type":"IAMRoleCredentialsAckRequest","message":{"messageId":"p4","expiration":"e","credentialsId":"k4"}}`)
		if set, state := store.Get("k4"); state != credentials.Here || set.Role != credentials.Execution {
			t.Errorf("the credentials of a task that is stopping are %s, of role %s", state, set.Role)
		}
	})
}

func TestFortyTasksAtOnce(t *testing.T) {
	w := &world{}
	play(t, Config{}, w, func(c *wstest.Conn) {
		var tasks []string
		for i := range 200 {
			tasks = append(tasks, running(string(rune('a'+i%26))+strings.Repeat("x", i/26)))
		}
		c.Send(payload("p", strings.Join(tasks, ",")))
		c.Expect(ackOf("p"))
		if got := len(w.taken()); got != 200 {
			t.Errorf("%d tasks were taken on before the ack", got)
		}
	})
}

func TestCredentialsMessage(t *testing.T) {
	w := &world{}
	store := credentials.New()
	store.Expect("known", credentials.Execution, "e")
	message := func(id, arn, role, key string) string {
		return `{"type":"IAMRoleCredentialsMessage","message":{"messageId":"` + id + `","taskArn":"` + arn + `","roleType":"` + role +
			`","roleCredentials":{"credentialsId":"e","accessKeyId":"` + key + `","expiration":"later"}}}`
	}
	play(t, Config{Credentials: store}, w, func(c *wstest.Conn) {
		c.Send(message("1", "stranger", "TaskExecution", "A1"))
		c.Send(message("2", "known", "TaskButler", "A2"))
		c.Send(message("3", "known", "TaskExecution", "A3"))
		c.Expect(`{"type":"IAMRoleCredentialsAckRequest","message":{"messageId":"3","expiration":"later","credentialsId":"e"}}`)
		if set, _ := store.Get("e"); set.AccessKeyID != "A3" {
			t.Errorf("the key is %s", set.AccessKeyID)
		}
	})
}

func TestManifest(t *testing.T) {
	w := &world{running: []string{"b", "a", "listed"}}
	manifest := func(id, timeline string) string {
		return `{"type":"TaskManifestMessage","message":{"messageId":"` + id + `",` + ids + `,"timeline":` + timeline +
			`,"tasks":[{"taskArn":"listed","desiredStatus":"RUNNING"},{"taskArn":"b","desiredStatus":"STOPPED"},{"taskArn":"elsewhere","desiredStatus":"RUNNING"}]}}`
	}
	question := func(id string) string {
		candidate := func(arn string) string {
			return `{"taskArn":"` + arn + `","taskClusterArn":"` + clusterARN + `","desiredStatus":"STOPPED"}`
		}
		return `{"type":"TaskStopVerificationMessage","message":{"messageId":"` + id + `","stopCandidates":[` + candidate("a") + `,` + candidate("b") + `]}}`
	}
	confirm := func(id, arn string) string {
		return `{"type":"TaskStopVerificationAck","message":{"messageId":"` + id + `","stopTasks":[{"taskArn":"` + arn + `"},{"taskArn":"unknown"}]}}`
	}
	play(t, Config{}, w, func(c *wstest.Conn) {
		c.Send(manifest("m1", "57"))
		c.Expect(ackOf("m1"))
		c.Expect(question("m1"))
		c.Send(confirm("m0", "b")) // not the last manifest
		heartbeat(c, "h1")
		expectLog(t, w)
		c.Send(confirm("m1", "a"))
		c.Send(confirm("m1", "b")) // confirmed already
		heartbeat(c, "h2")
		expectLog(t, w, "stop a")

		c.Send(manifest("m2", "57")) // not newer
		c.Send(`{"type":"PayloadMessage","message":{"messageId":"p",` + ids + `,"seqNum":60}}`)
		c.Expect(ackOf("p"))
		c.Send(manifest("m3", "60")) // older than the payload
		heartbeat(c, "h3")
		w.set(func() { w.broken = true })
		c.Send(manifest("m4", "61"))
		heartbeat(c, "h4")
		w.set(func() { w.broken = false })
		c.Send(manifest("m4", "61"))
		c.Expect(ackOf("m4"))
		c.Expect(strings.Replace(question("m4"), `{"taskArn":"a","taskClusterArn":"`+clusterARN+`","desiredStatus":"STOPPED"},`, "", 1))
	})
	if w.sequence != 61 {
		t.Errorf("the number saved is %d", w.sequence)
	}
}

func TestWhatIsNotDone(t *testing.T) {
	beats := 0
	play(t, Config{Heartbeat: func() { beats++ }}, &world{}, func(c *wstest.Conn) {
		c.Send(`{"type":"AttachTaskNetworkInterfacesMessage","message":{"messageId":"a",` + ids + `,"taskArn":"t","waitTimeoutMs":5}}`)
		c.Send(`{"type":"ConfirmAttachmentMessage","message":{"messageId":"b",` + ids + `}}`)
		c.Send(`{"type":"StageUpdateMessage","message":{"messageId":"u",` + ids + `,"updateInfo":{"location":"l","signature":"s"}}}`)
		c.Expect(`{"type":"NackRequest","message":{"cluster":"` + clusterARN + `","containerInstance":"` + instanceARN + `","messageId":"u","reason":"Updates are disabled"}}`)
		c.Send(`{"type":"CloseMessage","message":{"message":"soon"}}`)
		c.Send(`{"type":"ErrorMessage","message":{"message":"what"}}`)
		c.Send(`{"type":"ServerException","message":{"message":"ouch"}}`)
		c.Send(`{"type":"AckRequest","message":{}}`)
		heartbeat(c, "h")
	})
	if beats != 1 {
		t.Errorf("told of %d heartbeats", beats)
	}
	u := &obedient{sent: make(chan string, 10)}
	play(t, Config{Updates: u}, &world{}, func(c *wstest.Conn) {
		c.Send(`{"type":"PerformUpdateMessage","message":{"messageId":"u"}}`)
		c.Expect(`{"type":"AckRequest","message":{"messageId":"PerformUpdateMessage"}}`)
	})
	if sent := <-u.sent; sent != "AckRequest" {
		t.Errorf("told that %s was sent", sent)
	}
}

// obedient takes every update.
type obedient struct{ sent chan string }

// Order answers later, as a download does.
func (*obedient) Order(m wire.Message, answer func(wire.Message)) {
	go answer(&wire.AckRequest{MessageID: m.MessageType()})
}

// Sent notes what has left.
func (o *obedient) Sent(m wire.Message) { o.sent <- m.MessageType() }
