package keeper

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"testing"
)

// declared are the values of all constants of a type in transitions.go, so that none can be forgotten here.
func declared(t *testing.T, typeName string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "transitions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); !ok || name.Name != typeName {
			return true
		}
		for _, v := range spec.Values {
			text, err := strconv.Unquote(v.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, text)
		}
		return true
	})
	if len(found) < 2 {
		t.Fatalf("constants of type %s: %q", typeName, found)
	}
	return found
}

// age orders the phases: a keeper only ever gets older.
var age = map[phase]int{booting: 0, ready: 1, kept: 2, held: 3, dead: 4, destroying: 5}

func TestEveryPhaseIsReached(t *testing.T) {
	reached := map[phase]bool{booting: true}
	for range age {
		for from := range maps.Clone(reached) {
			for _, to := range transitions[from] {
				reached[to] = true
			}
		}
	}
	for _, p := range declared(t, "phase") {
		if !reached[phase(p)] {
			t.Errorf("no way leads to %s", p)
		}
		if kind := kinds[phase(p)]; phase(p) != booting && !kind.OfKeeper() {
			t.Errorf("the history does not know %s, as %q", p, kind)
		}
		if _, ok := age[phase(p)]; !ok {
			t.Errorf("%s is a phase that this test does not know", p)
		}
	}
}

func TestEveryTriggerMeansSomething(t *testing.T) {
	triggers := declared(t, "trigger")
	for _, name := range triggers {
		moves := false
		for _, from := range transitions {
			if _, ok := from[trigger(name)]; ok {
				moves = true
			}
		}
		if !moves {
			t.Errorf("%q moves nothing", name)
		}
	}
	for from, ways := range transitions {
		for tr := range ways {
			if !slices.Contains(triggers, string(tr)) {
				t.Errorf("%q, which moves %s, is no trigger", tr, from)
			}
		}
	}
}

func TestThereIsNoWayBack(t *testing.T) {
	for from, ways := range transitions {
		for tr, to := range ways {
			if age[to] < age[from] {
				t.Errorf("%q leads from %s back to %s", tr, from, to)
			}
		}
	}
	for _, tr := range declared(t, "trigger") {
		if to, ok := next(destroying, trigger(tr)); ok {
			t.Errorf("%q leads from %s to %s", tr, destroying, to)
		}
	}
}

// TestTheEndIsNeverFar is invariant 2: whatever phase it is in, a keeper whose job is over destroys its VM, and one that holds it does so
// when nobody may look into it any longer.
func TestTheEndIsNeverFar(t *testing.T) {
	for from := range transitions {
		ends := []trigger{stopAsked, runnerGone, jobOver, deadlineMet, signaled, forciblyEnd}
		if from == held {
			ends = []trigger{holdOver, slotWanted, released, vmEnded, signaled, forciblyEnd}
		}
		for _, tr := range ends {
			if to, ok := next(from, tr); to != destroying || !ok {
				t.Errorf("%q does not end a keeper that is %s", tr, from)
			}
		}
	}
}

// TestHeldVMOutlivesItsJob is what holding is for: nothing that comes with a job's end, and no stage, touches a VM that is held.
func TestHeldVMOutlivesItsJob(t *testing.T) {
	for _, tr := range []trigger{stopAsked, runnerGone, jobOver, deadlineMet, prepareGone, committed, holdBegins} {
		if to, ok := next(held, tr); ok {
			t.Errorf("%q moves a held keeper to %s", tr, to)
		}
	}
	for from := range transitions {
		for tr, to := range transitions[from] {
			if to == held && from != held && (from != kept || tr != holdBegins) {
				t.Errorf("%q holds a VM that is %s", tr, from)
			}
		}
	}
}

func TestTransitions(t *testing.T) {
	for _, c := range []struct {
		from phase
		t    trigger
		to   phase // empty for none
	}{
		{booting, ladderClimbed, ready},
		{booting, ladderFailed, destroying},
		{booting, prepareGone, destroying},
		{booting, committed, ""}, // nothing to take over yet
		{ready, committed, kept},
		{ready, prepareGone, destroying},
		{ready, vmEnded, dead},
		{ready, ladderFailed, ""},
		{kept, prepareGone, ""}, // prepare is expected to end
		{kept, vmEnded, dead},
		{kept, ladderClimbed, ""},
		{dead, committed, ""}, // prepare is told so
		{dead, prepareGone, destroying},
		{dead, vmEnded, ""},
		{kept, holdBegins, held},
		{kept, holdAsked, ""}, // noted for the job's end
		{kept, released, ""},  // its job still runs
		{kept, forciblyEnd, destroying},
		{dead, holdBegins, ""}, // there is nothing to hold
		{held, holdAsked, held},
		{held, slotWanted, destroying},
		{kept, "no such trigger", ""},
		{"no such phase", stopAsked, ""},
	} {
		if to, ok := next(c.from, c.t); to != c.to || ok != (c.to != "") {
			t.Errorf("%s, %q: got %q, %v, want %q", c.from, c.t, to, ok, c.to)
		}
	}
}
