// Package forwardtest is the far end of Fluentd's forward protocol, for tests: it
// decodes every form of event that the protocol has, written from its
// specification and not from the driver, and acknowledges what asks for it.
package forwardtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Record is an event as it arrived.
type Record struct {
	Tag  string
	Time time.Time
	// SubSecond says that the time was an EventTime and not whole seconds.
	SubSecond bool
	Fields    map[string]string
}

// Serve reads events from every connection of the listener and hands them to
// take, from several goroutines at once, until ctx ends; then it closes listener
// and connections. An event is acknowledged when take has returned.
func Serve(ctx context.Context, listener net.Listener, take func(Record)) error {
	var group sync.WaitGroup
	defer group.Wait()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("cannot accept: %w", err)
		}
		group.Go(func() {
			defer func() { _ = conn.Close() }()
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			_ = Read(conn, take) // a client that speaks nonsense is cut off
		})
	}
}

// Read reads the events of one connection until its end.
func Read(conn io.ReadWriter, take func(Record)) error {
	d := decoder{r: bufio.NewReader(conn)}
	for {
		v, err := d.value()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		records, chunk, err := message(v)
		if err != nil {
			return err
		}
		for _, r := range records {
			take(r)
		}
		if chunk == "" {
			continue
		}
		if len(chunk) > 31 {
			return fmt.Errorf("cannot acknowledge a chunk of %d bytes", len(chunk))
		}
		if _, err := conn.Write(append([]byte{0x81, 0xa3, 'a', 'c', 'k', 0xa0 | byte(len(chunk))}, chunk...)); err != nil {
			return fmt.Errorf("cannot acknowledge: %w", err)
		}
	}
}

// message is [tag, time, record, option?] or [tag, [[time, record], …], option?].
func message(v any) (records []Record, chunk string, err error) {
	list, ok := v.([]any)
	if !ok || len(list) < 2 {
		return nil, "", fmt.Errorf("%v is no message", v)
	}
	tag, ok := list[0].(string)
	if !ok {
		return nil, "", fmt.Errorf("the tag is %v", list[0])
	}
	entries, forward := list[1].([]any)
	rest := list[2:]
	if !forward {
		if len(rest) == 0 {
			return nil, "", errors.New("a message without a record")
		}
		entries, rest = []any{[]any{list[1], list[2]}}, list[3:]
	}
	for _, e := range entries {
		r, err := record(tag, e)
		if err != nil {
			return nil, "", err
		}
		records = append(records, r)
	}
	if len(rest) > 1 {
		return nil, "", fmt.Errorf("a message of %d elements", len(list))
	}
	if len(rest) == 1 {
		options, ok := rest[0].(map[string]any)
		if !ok {
			return nil, "", fmt.Errorf("the options are %v", rest[0])
		}
		chunk, _ = options["chunk"].(string)
	}
	return records, chunk, nil
}

// record is [time, {field: value}].
func record(tag string, v any) (Record, error) {
	pair, ok := v.([]any)
	if !ok || len(pair) != 2 {
		return Record{}, fmt.Errorf("%v is no entry", v)
	}
	r := Record{Tag: tag, Fields: map[string]string{}}
	switch at := pair[0].(type) {
	case time.Time:
		r.Time, r.SubSecond = at, true
	case int64:
		r.Time = time.Unix(at, 0)
	default:
		return Record{}, fmt.Errorf("the time is %v", at)
	}
	fields, ok := pair[1].(map[string]any)
	if !ok {
		return Record{}, fmt.Errorf("the record is %v", pair[1])
	}
	for name, value := range fields {
		r.Fields[name] = fmt.Sprint(value)
	}
	return r, nil
}
