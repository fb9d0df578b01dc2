package logs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
)

// The options of syslog, as Docker names them.
const (
	optSyslogAddress  = "syslog-address"
	optSyslogFacility = "syslog-facility"
	optSyslogFormat   = "syslog-format"
	optSyslogCA       = "syslog-tls-ca-cert"
	optSyslogCert     = "syslog-tls-cert"
	optSyslogKey      = "syslog-tls-key"
	optSyslogInsecure = "syslog-tls-skip-verify"
)

func syslogOptions() []string {
	return []string{
		optSyslogAddress, optSyslogFacility, optSyslogFormat, optSyslogCA, optSyslogCert, optSyslogKey, optSyslogInsecure,
		optTag, optLabels, optLabelsRegex, optEnv, optEnvRegex,
	}
}

// syslogFormat is how a message looks.
type syslogFormat string

// The formats; the first is that of syslog(3).
const (
	formatUnix      syslogFormat = ""
	format3164      syslogFormat = "rfc3164"
	format5424      syslogFormat = "rfc5424"
	format5424Micro syslogFormat = "rfc5424micro"
)

// syslogPort is used where an address has none; over TLS too, as with Docker.
const syslogPort = "514"

// networkTLS is TCP with TLS.
const networkTLS = "tcp+tls"

// syslogSettings are a container's options, understood. Without a network it is
// the host's own syslog.
type syslogSettings struct {
	network, address string
	facility         int // as part of a priority
	format           syslogFormat
	counted          bool // messages on a stream begin with their length
	tls              *tls.Config
}

// parseSyslog reads a container's options.
func parseSyslog(options map[string]string) (s syslogSettings, err error) {
	if s.network, s.address, err = syslogAddress(options[optSyslogAddress]); err != nil {
		return s, err
	}
	secure := s.network == networkTLS
	if s.facility, err = syslogFacility(options[optSyslogFacility]); err != nil {
		return s, err
	}
	switch s.format = syslogFormat(options[optSyslogFormat]); s.format {
	case formatUnix, format3164:
	case format5424, format5424Micro:
		s.counted = secure
	default:
		return s, fmt.Errorf("%w: %s=%q: must be one of rfc3164, rfc5424, rfc5424micro", ErrOptions, optSyslogFormat, s.format)
	}
	if !secure {
		return s, nil
	}
	s.tls, err = syslogTLS(options)
	return s, err
}

// syslogAddress reads an address: one of udp, tcp, tcp+tls, unix and unixgram,
// then :// and host:port or a path.
func syslogAddress(text string) (network, address string, err error) {
	if text == "" {
		return "", "", nil
	}
	bad := func(why string) error { return fmt.Errorf("%w: %s=%q: %s", ErrOptions, optSyslogAddress, text, why) }
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		return "", "", bad("it is like udp://host:514 or unix:///path")
	}
	switch u.Scheme {
	case "unix", "unixgram":
		if u.Path == "" {
			return "", "", bad("it has no path")
		}
		return u.Scheme, u.Path, nil
	case "udp", "tcp", networkTLS:
		host, port := u.Hostname(), u.Port()
		if host == "" {
			return "", "", bad("it has no host")
		}
		if port == "" {
			port = syslogPort
		}
		return u.Scheme, net.JoinHostPort(host, port), nil
	}
	return "", "", bad("the scheme is udp, tcp, tcp+tls, unix or unixgram")
}

// syslogFacility reads a facility, by name or number.
func syslogFacility(text string) (int, error) {
	names := []string{
		"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
		"", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
	}
	if text == "" {
		text = "daemon"
	}
	for n, name := range names {
		if name == text && name != "" {
			return n << 3, nil
		}
	}
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n < len(names) {
		return n << 3, nil
	}
	return 0, fmt.Errorf("%w: %s=%q is no facility such as daemon or local0, nor a number from 0 to 23", ErrOptions, optSyslogFacility, text)
}

// syslogTLS reads the certificates that the options name.
func syslogTLS(options map[string]string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if text, ok := options[optSyslogInsecure]; ok {
		// Docker takes the option alone for a yes.
		insecure, err := strconv.ParseBool(text)
		conf.InsecureSkipVerify = err != nil || insecure
	}
	if path := options[optSyslogCA]; path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrOptions, optSyslogCA, err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: %s=%q holds no certificate", ErrOptions, optSyslogCA, path)
		}
	}
	cert, key := options[optSyslogCert], options[optSyslogKey]
	if (cert == "") != (key == "") {
		return nil, fmt.Errorf("%w: %s and %s go together", ErrOptions, optSyslogCert, optSyslogKey)
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%w: %s, %s: %w", ErrOptions, optSyslogCert, optSyslogKey, err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}
