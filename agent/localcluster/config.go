package localcluster

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/wire/acs"
)

// InterfaceSource gives an awsvpc task its network interface. It is called with
// the state locked and must not call the server.
type InterfaceSource func(taskARN string) (*acs.ENI, error)

// Config is what a Server needs. The zero value is a cluster in memory on a free
// port of loopback that believes every signature.
type Config struct {
	// Listen is the address to listen on; empty means 127.0.0.1:0.
	Listen string
	// StateFile keeps the state over a restart; empty keeps it in memory.
	StateFile string
	// RegistryDir keeps pushed images over a restart; empty keeps them in memory.
	RegistryDir string
	// Region is the region in ARNs and signatures; empty means us-east-1.
	Region string
	// AccountID is the account in ARNs; empty means 000000000000.
	AccountID string
	// AccessKey and SecretKey make signatures count: when AccessKey is set, every
	// API call, websocket upgrade and telemetry frame must be signed with it, or
	// with role credentials that this server vended.
	AccessKey, SecretKey string
	// NoDefaultCluster leaves out the cluster "default", so that an agent has to
	// create it (spec control-plane §1.7).
	NoDefaultCluster bool
	// Timing slows down or speeds up what the service does by the clock.
	Timing Timing
	// Interfaces supplies the network interfaces of awsvpc tasks. Nil means that
	// there are none, and such tasks fail with RESOURCE:ENI.
	Interfaces InterfaceSource
	// Loan lends tasks credentials for all their roles; nil makes up some that open
	// nothing. It is called with the state locked and must not call the server. A
	// server that is lent credentials needs AccessKey: whoever may pose as its agent
	// gets them.
	Loan Loan
	// AgentUpdate is a file that UpdateContainerAgent tells agents of; empty means
	// that there is no update.
	AgentUpdate string
	// Log may be nil.
	Log *zap.Logger
}

// Timing is what happens by the clock. A zero member means its default.
type Timing struct {
	// Heartbeat is the interval of HeartbeatMessage on both websockets; 15 s.
	Heartbeat time.Duration
	// HeartbeatAck is how long an ACS heartbeat may stay unacknowledged before the
	// connection is closed; 60 s.
	HeartbeatAck time.Duration
	// Redeliver is the delay before a message without an ack is sent again; it
	// doubles with each try, up to 16 times; 5 s.
	Redeliver time.Duration
	// Lifetime is how long a websocket lives before the server closes it; 1 h.
	Lifetime time.Duration
	// Credentials is how long role credentials live; they are renewed at half of
	// it; 6 h.
	Credentials time.Duration
	// Stopped is how long a stopped task can still be described; 1 h.
	Stopped time.Duration
}

func (c Config) withDefaults() (Config, error) {
	if (c.AccessKey == "") != (c.SecretKey == "") {
		return c, errors.New("cannot use half of a key pair: AccessKey and SecretKey go together")
	}
	if c.Loan != nil && c.AccessKey == "" {
		return c, errors.New("cannot lend credentials to anybody who asks: Loan needs AccessKey")
	}
	setDefault(&c.Listen, "127.0.0.1:0")
	setDefault(&c.Region, "us-east-1")
	setDefault(&c.AccountID, "000000000000")
	setDefault(&c.Timing.Heartbeat, 15*time.Second)
	setDefault(&c.Timing.HeartbeatAck, time.Minute)
	setDefault(&c.Timing.Redeliver, 5*time.Second)
	setDefault(&c.Timing.Lifetime, time.Hour)
	setDefault(&c.Timing.Credentials, 6*time.Hour)
	setDefault(&c.Timing.Stopped, time.Hour)
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return c, nil
}

func setDefault[T comparable](at *T, value T) {
	var zero T
	if *at == zero {
		*at = value
	}
}
