package timeline

import (
	"maps"
	"testing"
	"time"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
)

// at is a moment, in milliseconds.
func at(ms int) time.Time { return time.UnixMilli(int64(ms)) }

func span(from, to int) Span { return Span{at(from), at(to)} }

func TestCovered(t *testing.T) {
	for name, c := range map[string]struct {
		spans []Span
		want  int
	}{
		"nothing":              {nil, 0},
		"inside":               {[]Span{span(20, 30)}, 10},
		"apart, out of order":  {[]Span{span(70, 80), span(20, 30)}, 20},
		"overlapping":          {[]Span{span(20, 50), span(40, 60)}, 40},
		"one within another":   {[]Span{span(20, 60), span(30, 40), span(50, 70)}, 50},
		"cut at both ends":     {[]Span{span(-50, 10), span(95, 500)}, 15},
		"outside":              {[]Span{span(-50, -10), span(100, 500)}, 0},
		"all of it, and twice": {[]Span{span(0, 100), span(-1, 101)}, 100},
		"the wrong way round":  {[]Span{span(60, 40)}, 0},
	} {
		if got := Covered(span(0, 100), c.spans); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("%s: got %v, want %d ms", name, got, c.want)
		}
	}
}

func call(command string, from, to int) simconf.Call {
	c := simconf.Call{Argv: []string{"tart", command, "vm"}, Start: at(from)}
	if to > 0 {
		end := at(to)
		c.End = &end
	}
	return c
}

func TestBeyond(t *testing.T) {
	calls := []simconf.Call{
		call("clone", 20, 50),
		call("set", 60, 70),
		call("run", 80, 9000), // ends with the VM, long after prepare
		call("ip", 90, 400),
		call("ip", 300, 0), // killed
		call("exec", 430, 440),
	}
	// 450 ms, of which 30 are clone's, 10 set's, 320 the boot's (80 to 400), 10 exec's.
	if got := Beyond(span(0, 450), calls, at(400), 0); got != 80*time.Millisecond {
		t.Errorf("got %v, want 80 ms", got)
	}
	// With 5 ms to start each of these four processes.
	if got := Beyond(span(0, 450), calls, at(400), 5*time.Millisecond); got != 60*time.Millisecond {
		t.Errorf("with the start of processes: got %v, want 60 ms", got)
	}
}

func TestCount(t *testing.T) {
	got := Count([]simconf.Call{call("ip", 1, 2), call("clone", 1, 2), call("ip", 3, 0), {}})
	if want := map[string]int{"ip": 2, "clone": 1, "": 1}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
