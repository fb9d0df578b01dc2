package acs

import (
	"strings"
	"testing"

	wire "github.com/berthd/berth/agent/wire/acs"
)

// BenchmarkFortyTasks is what a payload of forty tasks costs besides what the
// engine does with them: read, validate and convert.
func BenchmarkFortyTasks(b *testing.B) {
	task := hostConfig(`{"CapAdd":[],"CapDrop":[],"LogConfig":{"Type":"json-file"},"Ulimits":[{"Name":"nofile","Soft":1024,"Hard":2048}]}`)
	frame := []byte(payload("p", strings.Repeat(task+",", 39)+task))
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		m, err := wire.Decode(frame)
		if err != nil {
			b.Fatal(err)
		}
		for _, t := range m.(*wire.PayloadMessage).Tasks {
			if _, err := (Conversion{}).Convert(t, "t"); err != nil {
				b.Fatal(err)
			}
		}
	}
}
