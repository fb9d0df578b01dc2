package standin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

// Main is the program standin: it serves, or tells the server at address what to
// do and prints its answer.
func Main(ctx context.Context, address string, args []string, out io.Writer) error {
	if len(args) > 0 && args[0] == "serve" {
		if len(args) != 6 {
			return errUsage
		}
		return serve(ctx, args[1], args[2], args[3:])
	}
	if len(args) == 4 && args[0] == "object" {
		data, err := os.ReadFile(args[3])
		if err != nil {
			return err
		}
		args[3] = string(data)
	}
	body, err := json.Marshal(args)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/_standin/do", bytes.NewReader(body))
	if err != nil {
		return err
	}
	response, err := direct().Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // It was read to its end.
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(string(bytes.TrimSpace(answer)))
	}
	_, err = out.Write(answer)
	return err
}

// direct is a client that goes through no proxy.
func direct() *http.Client { return &http.Client{Transport: &http.Transport{}, Timeout: time.Minute} }

// serve serves at an address, and at the next port the registry for filling it.
// keys are the host's own pair, and a URL that knows all others: it is asked with
// the access key behind it.
func serve(ctx context.Context, address, caFile string, keys []string) error {
	s, err := New(Config{Keys: func(ctx context.Context, accessKey string) (Key, bool) {
		if accessKey == keys[0] {
			return Key{SecretAccessKey: keys[1], Role: "host"}, true
		}
		return askKey(ctx, keys[2]+url.PathEscape(accessKey))
	}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(caFile, s.CAPEM(), 0o600); err != nil {
		return err
	}
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for port, handler := range map[int]http.Handler{at.Port: s, at.Port + 1: s.Registry()} {
		server := &http.Server{
			Addr: (&net.TCPAddr{IP: at.IP, Port: port}).String(), Handler: handler, ReadHeaderTimeout: time.Minute,
		}
		group.Go(server.ListenAndServe)
		group.Go(func() error {
			<-ctx.Done()
			return server.Close()
		})
	}
	return group.Wait()
}

// askKey asks who an access key belongs to.
func askKey(ctx context.Context, where string) (Key, bool) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, where, http.NoBody)
	if err != nil {
		return Key{}, false
	}
	response, err := direct().Do(r)
	if err != nil {
		return Key{}, false
	}
	defer response.Body.Close() //nolint:errcheck // It was read to its end.
	var key Key
	err = json.NewDecoder(response.Body).Decode(&key)
	return key, err == nil && response.StatusCode == http.StatusOK
}

// Failed prints why the program failed, and ends it.
func Failed(err error) {
	fmt.Fprintln(os.Stderr, "standin:", err)
	os.Exit(1)
}
