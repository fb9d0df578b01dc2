package store

import (
	"bytes"
	"testing"
)

func TestRecordRoundTrip(t *testing.T) {
	for _, body := range []string{"", "{}", "\x00\xff", `{"n":1}`} {
		value := encode([]byte("key"), []byte(body))
		got, err := decode([]byte("key"), value)
		if err != nil || string(got) != body {
			t.Errorf("%q came back as %q, %v", body, got, err)
		}
		if _, err := decode([]byte("kez"), value); err == nil {
			t.Errorf("%q was believed under another key", body)
		}
		for i := range value {
			damaged := bytes.Clone(value)
			damaged[i] ^= 0x10
			if _, err := decode([]byte("key"), damaged); err == nil {
				t.Errorf("%q was believed with byte %d damaged", body, i)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("arn:aws:ecs:us-west-2:1:task/default/ab"), encode([]byte("k"), []byte(`{"n":1}`)))
	f.Add(entryKey(7), encode(entryKey(7), []byte(`{"Task":"a","Change":{"TaskARN":"a","Status":"RUNNING"}}`)))
	f.Add(entryKey(7), encode(entryKey(7), []byte(`{"Task":7}`)))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		body, err := decode(key, value)
		if err == nil && !bytes.Equal(encode(key, body), value) {
			t.Errorf("%q under %q is believed but is not what would be written", value, key)
		}
		if _, entryErr := decodeEntry(key, value); entryErr == nil && err != nil {
			t.Errorf("the entry %q is believed though its record is not: %v", value, err)
		}
		// What was written is read back, whatever it is.
		back, err := decode(key, encode(key, value))
		if err != nil || !bytes.Equal(back, value) {
			t.Errorf("%q came back as %q, %v", value, back, err)
		}
	})
}
