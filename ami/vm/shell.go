package vm

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// user is whom the image lets in with the key of the instance's metadata.
const user = "admin"

// dialing is how long a login may take, on a machine that is busy booting.
const dialing = 90 * time.Second

// key is the operator's.
type key struct {
	signer ssh.Signer
	public string // a line of authorized_keys
}

func newKey(tb testing.TB) key {
	tb.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		tb.Fatal(err)
	}
	return key{signer: signer, public: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " operator"}
}

// login connects with the machine as the operator would. It knows the machine by the first key that it shows.
func (k key) login(ctx context.Context, known *ssh.PublicKey) (*ssh.Client, error) {
	address := net.JoinHostPort(Address, "22")
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(dialing)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c, channels, requests, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(k.signer)},
		HostKeyCallback: func(_ string, _ net.Addr, shown ssh.PublicKey) error {
			if *known != nil && !bytes.Equal((*known).Marshal(), shown.Marshal()) {
				return fmt.Errorf("the machine shows another host key: %s", ssh.FingerprintSHA256(shown))
			}
			*known = shown
			return nil
		},
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return ssh.NewClient(c, channels, requests), nil
}

// shell runs a line as root, and answers what it printed on both streams.
func shell(ctx context.Context, client *ssh.Client, line, input string) (string, error) {
	session, err := client.NewSession()
	if err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = session.Close() }) // The error is ctx's then.
	defer stop()
	defer func() { _ = session.Close() }() // It has ended.
	session.Stdin = strings.NewReader(input)
	out, err := session.CombinedOutput("sudo -n sh -c '" + strings.ReplaceAll(line, "'", `'\''`) + "'")
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return string(bytes.TrimSpace(out)), err
}
