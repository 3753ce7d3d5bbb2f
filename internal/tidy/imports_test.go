package tidy

import (
	"slices"
	"strings"
	"testing"
)

// module is the path of this module.
const module = "github.com/tutti-run/tutti"

// level puts every package in its place: a package may import packages of a lower level
// only. Peers meet in cmd.
var level = map[string]int{
	"value": 0, "": 0, // the root package may use value
	"expr/jsonpath": 1, "expr/script": 1,
	"dialect/conductor": 2, "dialect/conductor/model": 2, "engine": 2,
	"engine/enginetest": 3, "store": 3,
	"store/storetest": 4, "store/memstore": 4, "store/pebblestore": 4, "runner": 4,
	"connector": 4, "connector/egress": 4, "connector/httpcall": 4, "connector/eventbus": 4,
	"observe": 4, "api/pb": 4,
	"api": 5, "api/textindex": 4,
	"api/conductorapi/query": 4, "api/conductorapi/events": 6, "api/conductorapi/schedule": 6,
	"api/conductorapi/conductorgrpc": 6,
	"api/conductorapi":               6, "api/adminapi": 6, "api/grpcapi": 6,
	"bench": 6, "examples/orders": 6,
	"cmd/tutti": 7,
	"client":    5,
	"sim":       5,
}

// peers are imports within a level that are meant.
var peers = map[string][]string{
	"api/conductorapi/conductorgrpc": {"api/conductorapi", "api/grpcapi"},
	"api/conductorapi":               {"api/conductorapi/events", "api/conductorapi/schedule"},
	"":                               {"value"},
	"connector":                      {"connector/egress", "connector/httpcall", "connector/eventbus"},
	"connector/httpcall":             {"connector", "connector/egress"},
	"connector/eventbus":             {"connector", "connector/egress"},
	"observe":                        {"runner"},
	"dialect/conductor":              {"dialect/conductor/model"},
}

// pure packages read no clock, start no goroutine and touch neither disk nor network.
var pure = []string{
	"", "value", "expr/jsonpath", "expr/script", "dialect/conductor",
	"dialect/conductor/model", "engine",
}

// onlyImports are packages that may import nothing of the module but what is listed.
var onlyImports = map[string][]string{
	"client": {"api/pb"},
}

func TestImports(t *testing.T) {
	for _, f := range load(t) {
		if f.test || f.outside() {
			continue
		}
		mine, ok := level[f.pkg]
		if !ok {
			t.Errorf("%s: package %q has no level in internal/tidy; give it one", f.path, f.pkg)
			continue
		}
		for _, imp := range f.imports() {
			dep, inside := strings.CutPrefix(imp, module)
			if !inside {
				continue
			}
			dep = strings.TrimPrefix(dep, "/")
			checkImport(t, f, mine, dep)
		}
	}
}

func checkImport(t *testing.T, f *file, mine int, dep string) {
	if strings.HasPrefix(dep, "api/pb") {
		dep = "api/pb"
	}
	if allowed, ok := onlyImports[f.pkg]; ok && !slices.Contains(allowed, dep) {
		t.Errorf("%s: %s may import only %v of this module, not %q", f.path, f.pkg, allowed, dep)
		return
	}
	theirs, ok := level[dep]
	switch {
	case !ok:
		t.Errorf("%s: imports %q, which has no level in internal/tidy", f.path, dep)
	case theirs < mine || slices.Contains(peers[f.pkg], dep):
	case dep == f.pkg:
	default:
		t.Errorf("%s: %q (level %d) must not import %q (level %d): imports point down",
			f.path, f.pkg, mine, dep, theirs)
	}
}

// banned names what pure packages must not use, with what to use instead.
var banned = map[string]string{
	"time.Now": "the turn's clock", "time.Sleep": "a timer of the engine",
	"time.After": "a timer of the engine", "time.Since": "the turn's clock",
	"time.NewTimer": "a timer of the engine", "time.Tick": "a timer of the engine",
}

var bannedImports = map[string]string{
	"math/rand": "the turn's random source", "math/rand/v2": "the turn's random source",
	"os": "what the caller passes in", "net": "a connector", "net/http": "a connector",
	"sync": "the shard's single goroutine", "sync/atomic": "the shard's single goroutine",
}

func TestPure(t *testing.T) {
	for _, f := range load(t) {
		if f.test || !slices.Contains(pure, f.pkg) || f.outside() {
			continue
		}
		if f.pkg == "expr/script" { // keeps a compile cache and an interrupt timer
			continue
		}
		for _, imp := range f.imports() {
			if instead, bad := bannedImports[imp]; bad {
				t.Errorf("%s: a pure package must not import %s; use %s", f.path, imp, instead)
			}
		}
		f.uses(func(name, pos string) {
			if instead, bad := banned[name]; bad {
				t.Errorf("%s: a pure package must not use %s; use %s", pos, name, instead)
			}
		})
		for _, pos := range f.goStatements() {
			t.Errorf("%s: a pure package must not start a goroutine", pos)
		}
	}
}
