package hostapi

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestReadFrameRefusesWhatIsMalformed(t *testing.T) {
	tests := []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, io.EOF},
		{"half a head", []byte{1, 0}, io.ErrUnexpectedEOF},
		{"half a payload", []byte{1, 0, 0, 0, 4, 'a'}, errFrame},
		{"more than anybody may send", []byte{1, 0xff, 0xff, 0xff, 0xff}, errFrame},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := readFrame(bytes.NewReader(tt.in)); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := sizeOf([]byte{1}); !errors.Is(err, errFrame) {
		t.Errorf("short resize: %v", err)
	}
	if _, err := exitCode(nil); !errors.Is(err, errFrame) {
		t.Errorf("short exit: %v", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	var seed bytes.Buffer
	w := &frameWriter{w: &seed}
	if err := errors.Join(w.frame(frameStdin, []byte("ls\n")), w.resize(Size{80, 24}), w.exit(-1), w.fail(ErrNotFound)); err != nil {
		f.Fatal(err)
	}
	f.Add(seed.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		for {
			_, payload, err := readFrame(r)
			if err != nil {
				return
			}
			if len(payload) > len(in) {
				t.Fatalf("%d bytes out of %d", len(payload), len(in))
			}
		}
	})
}
