// Command shape prints the figures by which we watch the shape of the tree: how
// long files and functions are, how wide types are, how much is documented. They
// gate nothing here; what has a limit in a linter is held by the linter.
//
//	go run ./agent/shape [DIRECTORY]
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	dir := "."
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	tree, err := measure(os.DirFS(dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, "shape:", err)
		os.Exit(1)
	}
	fmt.Print(tree.table())
}

// table is the figures, a line each.
func (s *shape) table() string {
	var table strings.Builder
	line := func(what, ours, goal string) { fmt.Fprintf(&table, "%-46s %-34s %s\n", what, ours, goal) }
	line("figure", "ours", "goal")
	line("Go lines: code, tests", fmt.Sprintf("%d, %d", s.lines, s.testLines), "")
	line("lines per file, p90 and max", fmt.Sprintf("%d, %d (%s)", percentile(s.files, 90), s.longest.n, s.longest.name), "350, 600")
	line("functions over 100 lines", fmt.Sprintf("%d of %d (%s)", s.longFunctions, s.functions, percent(s.longFunctions, s.functions)), "1 %")
	line("longest function, lines", s.longestFunction.String(), "100")
	line("struct fields, max but for Config and wire", s.widestStruct.String(), "20")
	line("interface methods, p90 and max", fmt.Sprintf("%d, %s", percentile(s.interfaces, 90), s.widestInterface), "4, 8")
	// Where the state is, a lock is worth a look.
	locks := func(dir, goal string) {
		line("locks per kloc in "+dir, fmt.Sprintf("%.1f", perThousand(s.locks[dir], s.dirLines[dir])), goal)
	}
	locks("agent/task", "0")
	locks("agent/engine", "4")
	line("mocks, GetX and SetX methods", fmt.Sprintf("%d, %d", s.mocks, s.accessors), "0, 0")
	line("time.Sleep in tests, outside synctest", fmt.Sprint(s.sleeps), "0")
	line("packages documented", fmt.Sprintf("%d of %d (%s)", s.documentedPackages(), len(s.packages), percent(s.documentedPackages(), len(s.packages))), "100 %")
	line("exported names documented", fmt.Sprintf("%d of %d (%s)", s.documented, s.exported, percent(s.documented, s.exported)), "95 %")
	return table.String()
}
