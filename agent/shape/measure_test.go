package main

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestMeasure(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	s, err := measure(fstest.MapFS{
		"agent/engine/a.go": file(`// Package engine is documented.
package engine

// A is documented.
type A struct{ a, b int; c string }

type B interface { One(); Two() }

// ConsDoc covers both.
const (
	C = 1
	D = 2
)

func (a *A) GetName() string { mu.Lock(); defer mu.Unlock(); return "" }

func (b hidden[T]) Exported() {}

// Wide is excepted.
type WideConfig struct { a, b, c, d, e int }
`),
		"agent/engine/long.go":    file("package engine\nfunc long() {" + strings.Repeat("\n", 100) + "}\n"),
		"agent/wire/x/m.go":       file("package x\ntype m struct { a, b, c, d, e, f int }\n"),
		"ipam/mock_pool.go":       file("package ipam\n"),
		"ipam/a_test.go":          file("package ipam\nfunc f() { time.Sleep(1) }\n"),
		"ipam/b_test.go":          file("package ipam\nimport \"testing/synctest\"\nfunc g() { time.Sleep(1) }\n"),
		"ipam/testdata/broken.go": file("not Go"),
		".tools/broken.go":        file("not Go"),
		"README.md":               file("no Go"),
	})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{
		fmt.Sprint("lines ", s.lines, " ", s.testLines),
		fmt.Sprint("longest ", s.longest),
		fmt.Sprint("functions ", s.functions, " ", s.longFunctions, " ", s.longestFunction),
		fmt.Sprint("struct ", s.widestStruct),
		fmt.Sprint("interface ", s.widestInterface, " ", s.interfaces),
		fmt.Sprint("locks ", s.locks["agent/engine"], " in ", s.dirLines["agent/engine"]),
		fmt.Sprint("mocks ", s.mocks, " accessors ", s.accessors, " sleeps ", s.sleeps),
		fmt.Sprint("packages ", s.documentedPackages(), " of ", len(s.packages)),
		fmt.Sprint("exports ", s.documented, " of ", s.exported),
	}
	want := []string{
		"lines 125 5",
		"longest 102 (agent/engine/long.go)",
		"functions 3 1 101 (agent/engine/long)",
		"struct 3 (agent/engine/A)",
		"interface 2 (agent/engine/B) [2]",
		"locks 1 in 122",
		"mocks 1 accessors 1 sleeps 1",
		"packages 1 of 3",
		"exports 4 of 6",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	table := s.table()
	if !strings.Contains(table, "locks per kloc in agent/engine                 8.2") {
		t.Errorf("the table:\n%s", table)
	}
}

func TestPercentile(t *testing.T) {
	for _, test := range []struct {
		values []int
		want   int
	}{
		{nil, 0},
		{[]int{7}, 7},
		{[]int{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, 9},
		{[]int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 10},
	} {
		if got := percentile(test.values, 90); got != test.want {
			t.Errorf("percentile(%v, 90) = %d, want %d", test.values, got, test.want)
		}
	}
}
