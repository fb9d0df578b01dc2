package task

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestStateOnDisk: a task that another version wrote down is read whole, and the
// other way round, because the members of the JSON stay what they are. Whoever
// adds one writes the golden file anew; one that goes, or changes its name or
// type, loses what is on the disks of hosts.
func TestStateOnDisk(t *testing.T) {
	var want State
	fill(reflect.ValueOf(&want).Elem())
	text, err := json.MarshalIndent(want, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/state.json"
	if *update {
		if err := os.WriteFile(golden, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	old, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	var got State
	d := json.NewDecoder(bytes.NewReader(old))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("what was written is not what is read:\n%s", diff)
	}
	var members, kept map[string]any
	for text, into := range map[string]*map[string]any{string(text): &members, string(old): &kept} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(kept, members); diff != "" {
		t.Errorf("another version reads and writes other members:\n%s", diff)
	}
}

// fill sets everything that is written down, each in a way of its own where the
// type has room for it.
func fill(v reflect.Value) {
	switch p := v.Addr().Interface().(type) {
	case *time.Time:
		*p = time.Date(2026, 7, 1, 12, 30, 0, 0, time.UTC)
		return
	case *netip.Addr:
		*p = netip.MustParseAddr("10.0.0.1")
		return
	case *netip.Prefix:
		*p = netip.MustParsePrefix("10.0.0.0/24")
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if !field.IsExported() || field.Tag.Get("json") == "-" {
				continue
			}
			fill(v.Field(i))
			if f := v.Field(i); f.Kind() == reflect.String {
				f.SetString("the " + strings.ToLower(field.Name))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(0.5)
	default:
		panic("cannot fill " + v.Type().String())
	}
}
