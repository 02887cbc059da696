package civar

import (
	"errors"
	"slices"
	"testing"
)

func TestExpandValueFollowsTheRunner(t *testing.T) {
	vars := List{
		Public("A", "one"), Public("A", "two"), {Key: "CERT", Value: "-----", File: true},
		Public("RUNNER_TEMP_PROJECT_DIR", "/b/p.tmp"), Public("B_1", "b"),
	}
	for in, want := range map[string]string{
		"$A":             "two",
		"${A}x":          "twox",
		"$$A":            "$A",
		"$$":             "$",
		"cost: 5$":       "cost: 5$",
		"$UNKNOWN|":      "|",
		"$1$*$@$?x":      "x",
		"$CERT":          "/b/p.tmp/CERT",
		"$B_1-${B_1}":    "b-b",
		"%A%":            "%A%",
		"plain":          "plain",
		"$A$UNKNOWN$B_1": "twob",
	} {
		if got := vars.ExpandValue(in); got != want {
			t.Errorf("ExpandValue(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestExpandLeavesRawValues(t *testing.T) {
	got := List{Public("A", "x"), {Key: "R", Value: "$A $$", Raw: true}, Public("B", "$R")}.Expand()
	if got.Value("R") != "$A $$" || got.Value("B") != "$A $$" {
		t.Errorf("got R=%q B=%q", got.Value("R"), got.Value("B"))
	}
}

func TestNested(t *testing.T) {
	tests := []struct {
		name string
		in   List
		key  string
		want string
	}{
		{"chain in any order", List{Public("A", "$B/a"), Public("B", "${C}/b"), Public("C", "c")}, "A", "c/b/a"},
		{"percent form", List{Public("A", "%B%"), Public("B", "b")}, "A", "b"},
		{"unknown stays for the runner", List{Public("A", "$CI_PROJECT_DIR/x")}, "A", "$CI_PROJECT_DIR/x"},
		{"escaped dollar stays for the runner", List{Public("A", "$$B"), Public("B", "b")}, "A", "$$B"},
		{"raw value stays", List{{Key: "A", Value: "$B", Raw: true}, Public("B", "b")}, "A", "$B"},
		{"reference to raw stays", List{Public("A", "$B"), {Key: "B", Value: "$C", Raw: true}, Public("C", "c")}, "A", "$B"},
		{"reference to a file stays", List{Public("A", "$B"), {Key: "B", Value: "b", File: true}}, "A", "$B"},
		{"itself stays", List{Public("P", "$P:/x")}, "P", "$P:/x"},
		{"last definition counts", List{Public("B", "old"), Public("A", "$B"), Public("B", "new")}, "A", "new"},
		{"empty braces stay", List{Public("A", "${}")}, "A", "${}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.in.Nested()
			if err != nil {
				t.Fatal(err)
			}
			if got.Value(tt.key) != tt.want {
				t.Errorf("%s = %q, want %q", tt.key, got.Value(tt.key), tt.want)
			}
		})
	}
}

func TestNestedRefusesCircles(t *testing.T) {
	_, err := List{Public("X", "$A"), Public("A", "$B"), Public("B", "$C"), Public("C", "$A")}.Nested()
	var circle *CircularError
	if !errors.As(err, &circle) || !slices.Equal(circle.Keys, []string{"A", "B", "C"}) {
		t.Fatalf("got %v", err)
	}
	if err.Error() != "circular variable reference detected: A -> B -> C -> A" {
		t.Error(err)
	}
}

func TestMerge(t *testing.T) {
	got := List{Public("A", "1"), Public("B", "1")}.Merge(List{Public("B", "2"), Public("C", "2"), Public("C", "3")})
	want := List{Public("A", "1"), Public("B", "2"), Public("C", "3")}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if got := (List{Public("A", "1"), Public("A", "2")}).Merge(nil); !slices.Equal(got, List{Public("A", "2")}) {
		t.Errorf("got %v", got)
	}
}

func TestBoolIntMaskedAndKeys(t *testing.T) {
	l := List{Public("T", "true"), Public("X", "maybe"), Public("N", "7"), {Key: "S", Value: "secret", Masked: true}, {Key: "E", Masked: true}}
	if !l.Bool("T", false) || !l.Bool("X", true) || l.Bool("none", false) || l.Int("N", 1) != 7 || l.Int("X", 3) != 3 {
		t.Error("typed values")
	}
	if !slices.Equal(l.Masked(), []string{"secret"}) {
		t.Errorf("masked %v", l.Masked())
	}
	for key, want := range map[string]bool{"A_1": true, "_": true, "1A": false, "a-b": false, "": false, "ä": false} {
		if ValidKey(key) != want {
			t.Errorf("ValidKey(%q) = %v", key, !want)
		}
	}
}

func FuzzNested(f *testing.F) {
	f.Add("$B", "$C", "x")
	f.Add("$B%C%", "${C}$$", "$A")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		in := List{Public("A", a), Public("B", b), Public("C", c)}
		out, err := in.Nested()
		if err == nil && len(out) != len(in) {
			t.Fatalf("%d variables became %d", len(in), len(out))
		}
	})
}
