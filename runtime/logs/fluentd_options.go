package logs

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The options of fluentd, with Docker's names.
const (
	optFluentdAddress   = "fluentd-address"
	optFluentdAsync     = "fluentd-async"
	optFluentdConnect   = "fluentd-async-connect"
	optFluentdReconnect = "fluentd-async-reconnect-interval"
	optFluentdLimit     = "fluentd-buffer-limit"
	optFluentdRetryWait = "fluentd-retry-wait"
	optFluentdRetries   = "fluentd-max-retries"
	optFluentdPrecision = "fluentd-sub-second-precision"
	optFluentdAck       = "fluentd-request-ack"
	optFluentdWrite     = "fluentd-write-timeout"
	optFluentdRead      = "fluentd-read-timeout"
)

func fluentdOptions() []string {
	return []string{
		optFluentdAddress, optFluentdAsync, optFluentdConnect, optFluentdReconnect, optFluentdLimit,
		optFluentdRetryWait, optFluentdRetries, optFluentdPrecision, optFluentdAck, optFluentdWrite, optFluentdRead,
		optLabels, optLabelsRegex, optEnv, optEnvRegex, optTag,
	}
}

// fluentdSettings are the options of fluentd that Berth acts on.
//
// The others are checked, and then without effect. Lines that cannot be sent
// always wait on disk, up to a limit, and are tried again until they have
// arrived: there is no connection to wait for when the container starts
// (fluentd-async), no buffer in memory (fluentd-buffer-limit), and no line to
// give up after some tries (fluentd-max-retries, fluentd-retry-wait).
type fluentdSettings struct {
	network, address  string // of net.Dial; network "tls" is tcp with TLS
	subSecond, ack    bool
	write, read       time.Duration
	reconnect         time.Duration
	retryWaitAccepted time.Duration
}

// parseFluentd reads the options.
func parseFluentd(options map[string]string) (s fluentdSettings, err error) {
	if s.network, s.address, err = fluentdAddress(options[optFluentdAddress]); err != nil {
		return s, err
	}
	var ignored bool
	for name, to := range map[string]*bool{
		optFluentdAsync: &ignored, optFluentdConnect: &ignored, optFluentdPrecision: &s.subSecond, optFluentdAck: &s.ack,
	} {
		if *to, err = parseBool(options, name, false); err != nil {
			return s, err
		}
	}
	_, async := options[optFluentdAsync]
	if _, connect := options[optFluentdConnect]; async && connect {
		return s, fmt.Errorf("%w: %s and %s cannot be set together", ErrOptions, optFluentdAsync, optFluentdConnect)
	}
	for name, to := range map[string]*time.Duration{
		optFluentdWrite: &s.write, optFluentdRead: &s.read, optFluentdReconnect: &s.reconnect, optFluentdRetryWait: &s.retryWaitAccepted,
	} {
		if *to, err = parseDuration(options, name); err != nil {
			return s, err
		}
	}
	if s.reconnect != 0 && (s.reconnect < 100*time.Millisecond || s.reconnect > 10*time.Second) {
		return s, fmt.Errorf("%w: %s=%q must be between 100ms and 10s", ErrOptions, optFluentdReconnect, options[optFluentdReconnect])
	}
	if text := options[optFluentdLimit]; text != "" {
		if _, err = parseSize(optFluentdLimit, text); err != nil {
			return s, err
		}
	}
	return s, checkCount(options, optFluentdRetries)
}

// fluentdAddress reads an address: host, host:port, or one of tcp, tls and unix
// with :// before it.
func fluentdAddress(text string) (network, address string, err error) {
	const host, port = "127.0.0.1", "24224"
	if text == "" {
		return "tcp", net.JoinHostPort(host, port), nil
	}
	full := text
	if !strings.Contains(full, "://") {
		full = "tcp://" + full
	}
	bad := func(why string) error {
		return fmt.Errorf("%w: %s=%q: %s", ErrOptions, optFluentdAddress, text, why)
	}
	u, err := url.Parse(full)
	if err != nil {
		return "", "", bad("it is not an address")
	}
	switch u.Scheme {
	case "unix":
		if u.Path == "" || u.Host != "" {
			return "", "", bad("write unix:///path")
		}
		return "unix", u.Path, nil
	case "tcp", "tls":
	default:
		return "", "", bad("the scheme is tcp, tls or unix")
	}
	if u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", "", bad("only a host and a port may follow the scheme")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return "", "", bad("the port is not a number from 1 to 65535")
		}
	}
	return u.Scheme, net.JoinHostPort(cmp.Or(u.Hostname(), host), cmp.Or(u.Port(), port)), nil
}

// parseBool reads true or false; an option that is not there is fallback.
func parseBool(options map[string]string, name string, fallback bool) (bool, error) {
	text := options[name]
	if text == "" {
		return fallback, nil
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("%w: %s=%q is not true or false", ErrOptions, name, text)
	}
	return v, nil
}

// checkCount says what is wrong with a whole number that is not negative.
func checkCount(options map[string]string, name string) error {
	text := options[name]
	if n, err := strconv.Atoi(text); text != "" && (err != nil || n < 0) {
		return fmt.Errorf("%w: %s=%q is not a number of 0 or more", ErrOptions, name, text)
	}
	return nil
}

// parseDuration reads a time such as 500ms; an option that is not there is 0.
func parseDuration(options map[string]string, name string) (time.Duration, error) {
	text := options[name]
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%w: %s=%q is not a time such as 500ms", ErrOptions, name, text)
	}
	return d, nil
}
