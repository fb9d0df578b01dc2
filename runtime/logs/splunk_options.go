package logs

import (
	"cmp"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/berthd/berth/runtime/container"
)

// The options of splunk, with Docker's names.
const (
	optSplunkToken      = "splunk-token"
	optSplunkURL        = "splunk-url"
	optSplunkSource     = "splunk-source"
	optSplunkSourceType = "splunk-sourcetype"
	optSplunkIndex      = "splunk-index"
	optSplunkCAPath     = "splunk-capath"
	optSplunkCAName     = "splunk-caname"
	optSplunkInsecure   = "splunk-insecureskipverify"
	optSplunkFormat     = "splunk-format"
	optSplunkVerify     = "splunk-verify-connection"
	optSplunkGzip       = "splunk-gzip"
	optSplunkGzipLevel  = "splunk-gzip-level"
	optSplunkAck        = "splunk-index-acknowledgment"
)

func splunkOptions() []string {
	return []string{
		optSplunkToken, optSplunkURL, optSplunkSource, optSplunkSourceType, optSplunkIndex, optSplunkCAPath,
		optSplunkCAName, optSplunkInsecure, optSplunkFormat, optSplunkVerify, optSplunkGzip, optSplunkGzipLevel,
		optSplunkAck, optLabels, optLabelsRegex, optEnv, optEnvRegex, optTag,
	}
}

// concealed moves options that are secrets by their nature to the secret ones,
// also where somebody wrote one down openly. What is given is left as it is.
func concealed(options map[string]string, secrets container.SecretOptions) (map[string]string, container.SecretOptions) {
	token, open := options[optSplunkToken]
	if !open {
		return options, secrets
	}
	options, secrets = maps.Clone(options), maps.Clone(secrets)
	delete(options, optSplunkToken)
	if secrets == nil {
		secrets = container.SecretOptions{}
	}
	if _, known := secrets[optSplunkToken]; !known {
		secrets[optSplunkToken] = token
	}
	return options, secrets
}

// The variables by which Docker's driver is tuned: how many messages are in one
// request, and how long a message may wait for others. How many wait in memory
// (SPLUNK_LOGGING_DRIVER_BUFFER_MAX and _CHANNEL_SIZE) and how long the driver is
// waited for (_TEMP_MESSAGES_HOLD_DURATION) has no meaning here: lines wait on
// disk.
const (
	envSplunkBatch     = "SPLUNK_LOGGING_DRIVER_POST_MESSAGES_BATCH_SIZE"
	envSplunkFrequency = "SPLUNK_LOGGING_DRIVER_POST_MESSAGES_FREQUENCY"
)

// splunkTuning is how entries are batched: Docker's numbers, but for the wait,
// which is shorter: a request while the last one is under way would wait anyhow.
func splunkTuning(env func(string) string) Batch {
	b := Batch{Lines: 1000, Bytes: 512 << 10, Linger: time.Second}
	if env == nil {
		return b
	}
	if n, err := strconv.Atoi(env(envSplunkBatch)); err == nil && n > 0 {
		b.Lines = n
	}
	if d, err := time.ParseDuration(env(envSplunkFrequency)); err == nil && d >= 0 {
		b.Linger = d
	}
	return b
}

// splunkSettings are the options of splunk that Berth acts on. One is checked
// and then without effect: splunk-verify-connection would keep a task from
// starting while Splunk is down, and its lines can wait.
type splunkSettings struct {
	url    string
	host   string
	token  string // never in an error, nor in a log
	format string // "inline", "json" or "raw"
	tag    string
	// gzip compresses requests at level.
	gzip  bool
	level int
	// ack asks the indexer to acknowledge, which wants a channel of our own.
	ack bool
}

// parseSplunk reads the options.
func parseSplunk(c Container) (s splunkSettings, err error) {
	if s.url, err = splunkURL(c.Options[optSplunkURL]); err != nil {
		return s, err
	}
	if s.host, err = os.Hostname(); err != nil {
		return s, fmt.Errorf("cannot tell the host's name: %w", err)
	}
	if s.token = c.Options[optSplunkToken]; s.token == "" {
		return s, fmt.Errorf("%w: %s is missing", ErrOptions, optSplunkToken)
	}
	switch s.format = cmp.Or(c.Options[optSplunkFormat], "inline"); s.format {
	case "inline", "json", "raw":
	default:
		return s, fmt.Errorf("%w: %s=%q; it is inline, json or raw", ErrOptions, optSplunkFormat, s.format)
	}
	var ignored bool
	for name, to := range map[string]*bool{optSplunkVerify: &ignored, optSplunkGzip: &s.gzip, optSplunkAck: &s.ack} {
		if *to, err = parseBool(c.Options, name, false); err != nil {
			return s, err
		}
	}
	s.level = gzip.DefaultCompression
	if text, there := c.Options[optSplunkGzipLevel]; there {
		if s.level, err = parseLevel(optSplunkGzipLevel, text); err != nil {
			return s, err
		}
	}
	if tag, there := c.Options[optTag]; !there || tag != "" {
		if s.tag, err = tagOf(c); err != nil {
			return s, err
		}
	}
	return s, nil
}

// splunkURL is where events are sent to on a host.
func splunkURL(text string) (string, error) {
	if text == "" {
		return "", fmt.Errorf("%w: %s is missing", ErrOptions, optSplunkURL)
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil ||
		u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%w: %s=%q; write scheme://dns_name_or_ip:port", ErrOptions, optSplunkURL, text)
	}
	u.Path = "/services/collector/event/1.0"
	return u.String(), nil
}

// splunkClient is an HTTP client that trusts whom the options say.
func splunkClient(options map[string]string) (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: options[optSplunkCAName]}
	var err error
	if conf.InsecureSkipVerify, err = parseBool(options, optSplunkInsecure, false); err != nil {
		return nil, err
	}
	if path := options[optSplunkCAPath]; path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrOptions, optSplunkCAPath, err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: %s=%q holds no certificate", ErrOptions, optSplunkCAPath, path)
		}
	}
	return &http.Client{
		Timeout: sendTimeout,
		Transport: &http.Transport{
			TLSClientConfig: conf, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			MaxIdleConns: 1, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: dialTimeout,
		},
	}, nil
}
