// Command router is a log router for the stories: it reads the configuration that
// Berth writes for Fluent Bit or Fluentd, as strictly as it can be read, takes
// events where that says, filters them, and prints what each output would get, a
// JSON object a line. It knows two outputs: stdout and null.
//
// It shows that the text is what the routers' languages ask for as far as their
// manuals say; that Fluent Bit itself takes it, only Fluent Bit can show.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/berthd/berth/runtime/logs/forwardtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "router:", err)
		os.Exit(1)
	}
}

// run routes until ctx ends.
func run(ctx context.Context) error {
	conf, err := load()
	if err != nil {
		return err
	}
	r, err := newRoutes(conf)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, in := range r.listen {
		if in.network == "unix" {
			if err := os.Remove(in.address); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		listener, err := (&net.ListenConfig{}).Listen(ctx, in.network, in.address)
		if err != nil {
			return err
		}
		group.Go(func() error { return forwardtest.Serve(ctx, listener, r.take) })
	}
	return group.Wait()
}

// load reads the configuration that is there.
func load() ([]section, error) {
	for path, parse := range map[string]func(string) ([]section, error){
		"/fluent-bit/etc/fluent-bit.conf": parseFluentBit, "/fluentd/etc/fluent.conf": parseFluentd,
	} {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		conf, err := parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return conf, nil
	}
	return nil, errors.New("there is no configuration")
}

// printer prints one event at a time.
type printer struct{ mu sync.Mutex }

// print prints an event of an output. An event that says "die" ends the program as
// a crash would, when everything before it is printed.
func (p *printer) print(r forwardtest.Record, options map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text, err := json.Marshal(map[string]any{"tag": r.Tag, "record": r.Fields, "output": options})
	if err != nil {
		text = []byte(err.Error())
	}
	fmt.Println(string(text))
	if r.Fields["log"] == "die" {
		os.Exit(137)
	}
}
