package vm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// patience is how long QEMU may take to answer.
const patience = time.Minute

// monitor speaks QMP: one command at a time, and the answer to it.
type monitor struct {
	conn   net.Conn
	reader *bufio.Reader
}

func openMonitor(path string) (*monitor, error) {
	conn, err := net.Dial("unix", path) //nolint:noctx // a socket of this machine's
	if err != nil {
		return nil, err
	}
	m := &monitor{conn: conn, reader: bufio.NewReader(conn)}
	return m, m.execute("qmp_capabilities", nil)
}

// execute gives a command and waits until it is done. Greetings and events come in between, and say nothing that is waited for.
func (m *monitor) execute(command string, arguments map[string]any) error {
	text, err := json.Marshal(map[string]any{"execute": command, "arguments": arguments})
	if arguments == nil {
		text, err = json.Marshal(map[string]any{"execute": command})
	}
	if err != nil {
		return err
	}
	if err := m.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := m.conn.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("cannot tell QEMU %s: %w", command, err)
	}
	said, err := m.read(func(said *message) bool { return said.Return != nil || said.Error != nil })
	if err != nil {
		return fmt.Errorf("QEMU does not answer %s: %w", command, err)
	}
	if said.Error != nil {
		return fmt.Errorf("QEMU refuses %s: %s", command, said.Error.Desc)
	}
	return nil
}

// await waits for an event that comes from now on.
func (m *monitor) await(event string, limit time.Duration) error {
	if err := m.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	_, err := m.read(func(said *message) bool { return said.Event == event })
	return err
}

// message is what QEMU says: an answer or an event.
type message struct {
	Event  string
	Return *json.RawMessage
	Error  *struct{ Desc string }
}

// read reads until a message is the one.
func (m *monitor) read(is func(*message) bool) (*message, error) {
	for {
		line, err := m.reader.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		said := &message{}
		if err := json.Unmarshal(line, said); err != nil {
			return nil, fmt.Errorf("QEMU says %s: %w", line, err)
		}
		if is(said) {
			return said, nil
		}
	}
}

func (m *monitor) close() { _ = m.conn.Close() } // What was said was heard.
