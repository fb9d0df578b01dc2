package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/berthd/berth/runtime/logs/forwardtest"
)

// logServerMain is the program log-server fluentd|gelf|splunk ADDRESS [TOKEN]: a
// log service that prints what it gets, a line each.
func logServerMain() {
	if err := logServer(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "log-server:", err)
		os.Exit(1)
	}
}

func logServer(ctx context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "fluentd":
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", args[1])
		if err != nil {
			return err
		}
		var mu sync.Mutex // one line at a time
		return forwardtest.Serve(ctx, listener, func(r forwardtest.Record) {
			mu.Lock()
			defer mu.Unlock()
			text, err := json.Marshal(r.Fields)
			if err != nil {
				text = []byte(err.Error())
			}
			fmt.Println(r.Tag, string(text))
		})
	case len(args) == 2 && args[0] == "gelf":
		return gelfServer(ctx, args[1])
	case len(args) == 3 && args[0] == "splunk":
		server := &http.Server{
			Addr: args[1], ReadHeaderTimeout: time.Minute,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { collect(w, r, args[2]) }),
		}
		return server.ListenAndServe()
	}
	return errors.New("usage: log-server fluentd|gelf ADDRESS, log-server splunk ADDRESS TOKEN")
}

// gelfServer prints messages that are one compressed datagram.
func gelfServer(ctx context.Context, address string) error {
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", address)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<16)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		zipped, err := gzip.NewReader(bytes.NewReader(buf[:n]))
		if err != nil {
			return err
		}
		text, err := io.ReadAll(zipped)
		if err != nil {
			return err
		}
		fmt.Println(string(text))
	}
}

// collect prints the events of a request that has the token.
func collect(w http.ResponseWriter, r *http.Request, token string) {
	if r.Header.Get("Authorization") != "Splunk "+token {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	for decoder := json.NewDecoder(r.Body); ; {
		var event json.RawMessage
		if decoder.Decode(&event) != nil {
			return
		}
		fmt.Println(string(event))
	}
}
