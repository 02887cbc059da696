package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/quick"
)

func TestAllFaultyValuesAreReported(t *testing.T) {
	_, errs := Resolve(Sources{
		Flags:     map[string]string{"cpu": "many", "mac": "00:11", "state-dir": "here", "max-vm-count": "0"},
		Variables: map[string]string{"TART_EXECUTOR_TIMEOUT": "soon", "TART_PULL_POLICY": "sometimes", "TART_EXECUTOR_HEADLESS": "maybe"},
	})
	var got []string
	for _, err := range errs {
		value := (*ValueError)(nil)
		if !errors.As(err, &value) {
			t.Fatalf("%v is no ValueError", err)
		}
		got = append(got, string(value.Origin))
		for _, want := range []string{string(value.Origin), fmt.Sprintf("%q", value.Value), "expected " + value.Expected} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %s", err, want)
			}
		}
	}
	slices.Sort(got)
	want := []string{"flag --cpu", "flag --mac", "flag --max-vm-count", "flag --state-dir", "variable TART_EXECUTOR_HEADLESS",
		"variable TART_EXECUTOR_TIMEOUT", "variable TART_PULL_POLICY"}
	if !slices.Equal(got, want) {
		t.Errorf("reported are %q, want %q", got, want)
	}
}

func TestSecretsStayOutOfErrors(t *testing.T) {
	tested := 0
	for _, row := range Table() {
		if !row.Secret {
			continue
		}
		tested++
		secret := "hunter2\nhunter3"
		sources := []Sources{{Flags: map[string]string{row.Name: secret}}}
		for _, name := range row.Variables {
			sources = append(sources, Sources{Variables: map[string]string{name: secret}})
		}
		for _, src := range sources {
			src.Defaults = hostDefaults
			_, errs := Resolve(src)
			if len(errs) != 1 || !strings.Contains(errs[0].Error(), row.Name) && !strings.Contains(errs[0].Error(), "variable TART_") {
				t.Fatalf("--%s: errors %v, want one with the origin", row.Name, errs)
			}
			for _, form := range []string{"%v", "%s", "%q"} {
				if text := fmt.Sprintf(form, errs[0]); strings.Contains(text, "hunter") {
					t.Errorf("--%s: %q gives the secret away", row.Name, text)
				}
			}
		}
	}
	if tested == 0 {
		t.Error("no setting is secret")
	}
}

func TestLongValuesAreCutInErrors(t *testing.T) {
	_, errs := Resolve(Sources{Flags: map[string]string{"shell": strings.Repeat("é", 100000)}, Defaults: hostDefaults})
	if len(errs) != 1 || len(errs[0].Error()) > 1000 {
		t.Errorf("the error is %d bytes long", len(errs[0].Error()))
	}
}

func TestUnknownVariables(t *testing.T) {
	got := Unknown(map[string]string{
		"TART_PULL_POLICI":         "x",
		"TART_EXECUTOR_TIMOUT":     "x",
		"TART_SHH_PASSWORD":        "secret",
		"TART_REGISTRY":            "known",
		"TART_":                    "x",
		"TART_ENTIRELY_OF_OUR_OWN": "x",
		"MY_TART_PULL_POLICI":      "not ours",
		"tart_pull_policy":         "not ours",
		"PATH":                     "/bin",
	})
	const is = " is not a setting of this driver and has no effect"
	want := []string{
		"variable TART_" + is,
		"variable TART_ENTIRELY_OF_OUR_OWN" + is,
		"variable TART_EXECUTOR_TIMOUT" + is + "; did you mean TART_EXECUTOR_TIMEOUT?",
		"variable TART_PULL_POLICI" + is + "; did you mean TART_PULL_POLICY?",
		"variable TART_SHH_PASSWORD" + is + "; did you mean TART_SSH_PASSWORD?",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	all := map[string]string{}
	for _, row := range Table() {
		for _, name := range row.Variables {
			all[name] = "x"
		}
	}
	if got := Unknown(all); len(got) != 0 {
		t.Errorf("the table's own variables are unknown: %q", got)
	}
}

func TestNearestTakesTheFewestEdits(t *testing.T) {
	known := []string{"TART_AAAA", "TART_AABB", "TART_ABBB"}
	for name, want := range map[string]string{
		"TART_AABX":            "TART_AABB",
		"TART_AAA":             "TART_AAAA",
		"TART_XXXX":            "",
		"TART_ABBBXXXXXXXXXXX": "",
	} {
		if got := nearest(name, known); got != want {
			t.Errorf("nearest to %s is %q, want %q", name, got, want)
		}
	}
}

// TestDistanceIsAMetric checks what any distance must be, and a few known ones.
func TestDistanceIsAMetric(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"abc", "abc", 0}, {"abcdef", "azced", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("from %q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
	short := func(s string) string { return s[:min(len(s), 12)] }
	property := func(a, b, c string) bool {
		a, b, c = short(a), short(b), short(c)
		ab, ba := distance(a, b), distance(b, a)
		longer, shorter := max(len(a), len(b)), min(len(a), len(b))
		return ab == ba && (ab == 0) == (a == b) && ab <= longer && ab >= longer-shorter &&
			distance(a, c) <= ab+distance(b, c) && distance(a+"x", b+"x") == ab
	}
	if err := quick.Check(property, &quick.Config{MaxCount: 2000}); err != nil {
		t.Error(err)
	}
}
