package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// A resolver takes a host name of digits alone for an address: about one id in
// three hundred would begin so.
func TestHostNamesAreNotDigits(t *testing.T) {
	numeric := 0
	for i := range 10_000 {
		arn := fmt.Sprintf("arn:aws:ecs:us-east-1:1:task/default/%032x", i)
		id := RuntimeID(arn, "web")
		if !strings.ContainsAny(id[:12], "abcdef") || len(id) != 64 || id != RuntimeID(arn, "web") {
			t.Errorf("%s: %s", arn, id)
		}
		plain := sha256.Sum256([]byte(arn + "\x00web"))
		if !strings.ContainsAny(hex.EncodeToString(plain[:6]), "abcdef") {
			numeric++
		} else if id != hex.EncodeToString(plain[:]) {
			t.Errorf("%s has another id than before: %s", arn, id)
		}
	}
	if numeric == 0 {
		t.Error("no id would have been of digits: the test proves nothing")
	}
}
