package script

import (
	"bytes"
	"math/rand/v2"
	"os/exec"
	"testing"
)

// shells returns the shells on this machine that must understand the scripts: bash always, zsh where it is installed.
func shells(t testing.TB) []string {
	t.Helper()
	found := []string{}
	for _, name := range []string{"bash", "zsh"} {
		if p, err := exec.LookPath(name); err == nil {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		t.Skip("no bash on this machine")
	}
	return found
}

// echoed lets a shell print a quoted word.
func echoed(t testing.TB, shell, word string) []byte {
	t.Helper()
	cmd := exec.Command(shell, "-c", "printf %s "+word)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s -c 'printf %%s %s': %v", shell, word, err)
	}
	return out
}

func TestQuoteGivesEveryByteBack(t *testing.T) {
	every := make([]byte, 0, 255)
	for c := 1; c < 256; c++ {
		every = append(every, byte(c))
	}
	samples := [][]byte{every, []byte("it's"), []byte(`back\slash`), []byte("tail\n"), []byte("-n"), []byte("~"), []byte("=ls"), []byte("a b"),
		[]byte("ünïcödé 漢字"), []byte("\xff\xfe0123"), []byte("!event"), []byte("$(id)`id`${x}"), []byte("x*?[a]{b,c}"), []byte("\x01\x7f\x1b[0m")}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		b := make([]byte, 1+rng.IntN(60))
		for i := range b {
			b[i] = byte(1 + rng.IntN(255))
		}
		samples = append(samples, b)
	}
	for _, shell := range shells(t) {
		for _, want := range samples {
			word := Quote(string(want))
			for i := range len(word) {
				if word[i] < ' ' || word[i] > '~' {
					t.Fatalf("%q has a byte that is not printable ASCII", word)
				}
			}
			if got := echoed(t, shell, word); !bytes.Equal(got, want) {
				t.Errorf("%s: %q came back as %q", shell, want, got)
			}
		}
	}
}

func TestQuoteForms(t *testing.T) {
	for in, want := range map[string]string{
		"":             "''",
		"make":         "make",
		"a/b-c_d.e@1,": "a/b-c_d.e@1,",
		"a b":          "$'a b'",
		"it's":         `$'it\'s'`,
		"\\":           `$'\\'`,
		"a\nb\tc\r":    `$'a\nb\tc\r'`,
		"\a\b\v\f":     `$'\a\b\v\f'`,
		"\x1b\x7f\xff": `$'\x1b\x7f\xff'`,
		"A=b":          "$'A=b'",
	} {
		if got := Quote(in); got != want {
			t.Errorf("Quote(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestQuoteWord(t *testing.T) {
	for in, want := range map[string]string{
		"make": "make", "A=b": "A=b", "=ls": "'=ls'", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "--x=1:2": "--x=1:2", "=": "'='",
	} {
		if got := QuoteWord(in); got != want {
			t.Errorf("QuoteWord(%q) = %s, want %s", in, got, want)
		}
		for _, shell := range shells(t) {
			if got := echoed(t, shell, QuoteWord(in)); string(got) != in {
				t.Errorf("%s: %q came back as %q", shell, in, got)
			}
		}
	}
}

func FuzzQuote(f *testing.F) {
	f.Add("it's", "a b")
	f.Add("\x00\xff", "\n\\")
	bash, err := exec.LookPath("bash")
	if err != nil {
		f.Skip("no bash on this machine")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		in := string(bytes.ReplaceAll([]byte(a+b), []byte{0}, nil))
		if got := echoed(t, bash, Quote(in)); string(got) != in {
			t.Fatalf("%q came back as %q", in, got)
		}
		if got := echoed(t, bash, QuoteWord(in)); string(got) != in {
			t.Fatalf("word %q came back as %q", in, got)
		}
	})
}
