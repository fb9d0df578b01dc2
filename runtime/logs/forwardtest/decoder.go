package forwardtest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// decoder reads MessagePack: strings and binaries become string, integers int64,
// an EventTime time.Time, arrays []any and maps map[string]any.
type decoder struct{ r *bufio.Reader }

// value reads the next value; io.EOF says that there is none.
func (d *decoder) value() (any, error) {
	form, err := d.r.ReadByte()
	if err != nil {
		return nil, err
	}
	v, err := d.rest(form)
	if err == io.EOF { //nolint:errorlint // only the bare one says that the stream ends here
		err = io.ErrUnexpectedEOF
	}
	return v, err
}

func (d *decoder) rest(form byte) (any, error) {
	switch {
	case form < 0x80:
		return int64(form), nil
	case form < 0x90:
		return d.object(int(form & 0x0f))
	case form < 0xa0:
		return d.array(int(form & 0x0f))
	case form < 0xc0:
		return d.text(int(form & 0x1f))
	case form >= 0xe0:
		return int64(int8(form)), nil
	}
	switch form {
	case 0xc0:
		return nil, nil
	case 0xc2, 0xc3:
		return form == 0xc3, nil
	case 0xc4, 0xd9:
		return d.sized(1, d.text)
	case 0xc5, 0xda:
		return d.sized(2, d.text)
	case 0xc6, 0xdb:
		return d.sized(4, d.text)
	case 0xc7:
		return d.sized(1, d.extension)
	case 0xd7:
		return d.extension(8)
	case 0xcc, 0xcd, 0xce, 0xcf:
		n, err := d.number(1 << (form - 0xcc))
		return int64(n), err
	case 0xd3:
		n, err := d.number(8)
		return int64(n), err
	case 0xdc:
		return d.sized(2, d.array)
	case 0xdd:
		return d.sized(4, d.array)
	case 0xde:
		return d.sized(2, d.object)
	case 0xdf:
		return d.sized(4, d.object)
	}
	return nil, fmt.Errorf("the form %#x is none that the protocol has", form)
}

// number reads a big-endian number of size bytes.
func (d *decoder) number(size int) (uint64, error) {
	var buf [8]byte
	_, err := io.ReadFull(d.r, buf[8-size:])
	return binary.BigEndian.Uint64(buf[:]), err
}

// sized reads a length of size bytes and then what is so long.
func (d *decoder) sized(size int, read func(n int) (any, error)) (any, error) {
	n, err := d.number(size)
	if err != nil {
		return nil, err
	}
	if n > 1<<26 {
		return nil, fmt.Errorf("a length of %d", n)
	}
	return read(int(n))
}

func (d *decoder) text(n int) (any, error) {
	buf := make([]byte, n)
	_, err := io.ReadFull(d.r, buf)
	return string(buf), err
}

// extension reads an EventTime.
func (d *decoder) extension(n int) (any, error) {
	kind, err := d.r.ReadByte()
	if err != nil {
		return nil, err
	}
	if kind != 0 || n != 8 {
		return nil, fmt.Errorf("an extension of type %d and %d bytes", kind, n)
	}
	seconds, err := d.number(4)
	if err != nil {
		return nil, err
	}
	nanos, err := d.number(4)
	return time.Unix(int64(seconds), int64(nanos)), err
}

func (d *decoder) array(n int) (any, error) {
	list := make([]any, 0, min(n, 1024))
	for range n {
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func (d *decoder) object(n int) (any, error) {
	m := make(map[string]any, min(n, 1024))
	for range n {
		key, err := d.value()
		if err != nil {
			return nil, err
		}
		name, ok := key.(string)
		if !ok {
			return nil, fmt.Errorf("%v is no name of a field", key)
		}
		if m[name], err = d.value(); err != nil {
			return nil, err
		}
	}
	return m, nil
}
