package joblog

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

// through sends text through one stream in pieces of n bytes (0: all at once).
func through(opts Options, text string, n int) string {
	opts.Keep = true
	opts.Out = &bytes.Buffer{}
	l := New(opts)
	s := l.Stream()
	if n == 0 {
		n = len(text) + 1
	}
	for len(text) > 0 {
		k := min(n, len(text))
		s.Write([]byte(text[:k]))
		text = text[k:]
	}
	s.Close()
	return string(l.Bytes())
}

func TestMaskedValues(t *testing.T) {
	masked := []string{"secret", "secret-longer", "aab", "", "x"}
	for in, want := range map[string]string{
		"no news":                "no news",
		"a secret b":             "a [MASKED] b",
		"secretsecret":           "[MASKED][MASKED]",
		"secret-longer":          "[MASKED]",
		"secret-long":            "[MASKED]-long",
		"secre":                  "secre",
		"aaab":                   "a[MASKED]",
		"aaaaab":                 "aaa[MASKED]",
		"sesecret":               "se[MASKED]",
		"x":                      "[MASKED]",
		"line\nsecret\r\nsecret": "line\n[MASKED]\r\n[MASKED]",
	} {
		for n := range len(in) + 1 {
			if got := through(Options{Masked: masked}, in, n); got != want {
				t.Errorf("%q in pieces of %d: got %q, want %q", in, n, got, want)
			}
		}
	}
}

func TestSectionMarkers(t *testing.T) {
	const end = "\r\x1b[0K"
	for in, want := range map[string]string{
		"plain section_ text": "plain section_ text",
		"section_start:1:a" + end + "Head\nx\nsection_end:2:a" + end:      "Head\nx\n",
		"\x1b[0Ksection_start:1:a.b-c_D[collapsed=true]" + end + "Head\n": "\x1b[0KHead\n",
		"section_start:1:a[]" + end + "h":                                 "h",
		"section_start:1:a[x=1,y=2]" + end + "h":                          "h",
		"one\nsection_end:2:a" + end + "\ntwo\n":                          "one\ntwo\n",
		"one\n\x1b[0Ksection_end:2:a" + end + "\r\ntwo\n":                 "one\n\x1b[0Ktwo\n",
		"one section_end:2:a" + end + "\ntwo\n":                           "one \ntwo\n",
		"section_end:2:a" + end + "text\n":                                "text\n",
		"section_end:2:a" + end + "\rtext\n":                              "\rtext\n",
		"section_end:2:a" + end + "section_start:2:b" + end + "h\n":       "h\n",
		"section_start:x:a" + end:                                         "section_start:x:a" + end,
		"section_start:1:a b" + end:                                       "section_start:1:a b" + end,
		"section_start:1:" + end:                                          "section_start:1:" + end,
		"section_start:1:a\n":                                             "section_start:1:a\n",
		"section_end:1:a[x]" + end + "y":                                  "y",
		"section_section_start:1:a" + end + "y":                           "section_y",
		"sectio":                                                          "sectio",
		"section_start:1:a\r\x1b[0":                                       "section_start:1:a\r\x1b[0",
		"\r\r\n":                                                          "\r\r\n",
		"section_end:1:a" + end + "\r":                                    "\r",
	} {
		for n := range len(in) + 1 {
			if got := through(Options{}, in, n); got != want {
				t.Errorf("%q in pieces of %d: got %q, want %q", in, n, got, want)
			}
		}
		if got := through(Options{Raw: true}, in, 3); got != in {
			t.Errorf("raw: %q became %q", in, got)
		}
	}
}

func TestEndlessMarkerIsNotHeld(t *testing.T) {
	l := New(Options{Out: &bytes.Buffer{}, Keep: true})
	s := l.Stream()
	text := "section_start:1:" + strings.Repeat("a", 3*maxMarker)
	s.Write([]byte(text))
	if got := len(l.Bytes()); got < len(text)-maxMarker {
		t.Errorf("%d of %d bytes were held", len(text)-got, len(text))
	}
	s.Close()
	if string(l.Bytes()) != text {
		t.Error("the text changed")
	}
}

func TestStreamsKeepTheirOwnState(t *testing.T) {
	l := New(Options{Out: &bytes.Buffer{}, Keep: true, Masked: []string{"secret"}})
	out, errs := l.Stream(), l.Stream()
	out.Write([]byte("sec"))
	errs.Write([]byte("ret\n"))
	out.Write([]byte("ret\n"))
	out.Close()
	errs.Close()
	if got := string(l.Bytes()); got != "ret\n[MASKED]\n" {
		t.Errorf("got %q", got)
	}
}

func TestMessages(t *testing.T) {
	var out bytes.Buffer
	l := New(Options{Out: &out, Raw: true, Masked: []string{"tok"}, Now: func() time.Time { return time.Unix(1700000000, 0) }})
	err := l.Section("get_sources", func() error {
		l.Title("Getting source from Git repository")
		return errors.New("kept")
	})
	l.Print("plain tok")
	l.Info("Job succeeded")
	l.Warning("careful")
	l.Error("Job failed: exit status 3")
	want := "section_start:1700000000:get_sources\r\x1b[0K\x1b[0K\x1b[36;1mGetting source from Git repository\x1b[0;m\x1b[0;m\n" +
		"section_end:1700000000:get_sources\r\x1b[0K\x1b[0Kplain [MASKED]\x1b[0;m\n\x1b[32;1mJob succeeded\x1b[0;m\n" +
		"\x1b[0;33mWARNING: careful\x1b[0;m\n\x1b[31;1mERROR: Job failed: exit status 3\x1b[0;m\n"
	if out.String() != want || err == nil || err.Error() != "kept" {
		t.Errorf("%v\ngot  %q\nwant %q", err, out.String(), want)
	}
}

type broken struct{ writes int }

func (b *broken) Write([]byte) (int, error) {
	b.writes++
	return 0, errors.New("gone")
}

func TestBrokenOutputIsReportedOnce(t *testing.T) {
	out, reports := &broken{}, 0
	l := New(Options{Out: out, Keep: true, OnError: func(error) { reports++ }})
	s := l.Stream()
	for range 3 {
		if n, err := s.Write([]byte("abc")); n != 3 || err != nil {
			t.Errorf("the stage noticed: %d %v", n, err)
		}
	}
	if out.writes != 1 || reports != 1 || string(l.Bytes()) != "abcabcabc" {
		t.Errorf("%d writes, %d reports, kept %q", out.writes, reports, l.Bytes())
	}
}

func TestNothingComesAfterTheEnd(t *testing.T) {
	var out bytes.Buffer
	l := New(Options{Out: &out})
	s := l.Stream()
	s.Write([]byte("in time"))
	l.Close()
	s.Write([]byte("late"))
	if out.String() != "in time" {
		t.Errorf("got %q", out.String())
	}
}

func FuzzFilters(f *testing.F) {
	f.Add("section_start:1:a\r\x1b[0Ksecret\n", "secret", "se", 3)
	f.Add("section_end:1:a\r\x1b[0K\r\n", "aab", "ab", 1)
	f.Fuzz(func(t *testing.T, text, a, b string, n int) {
		if n < 1 || n > 100 {
			n = 1
		}
		opts := Options{Masked: []string{a, b}}
		whole, pieces := through(opts, text, 0), through(opts, text, n)
		if whole != pieces {
			t.Fatalf("%q: %q at once, %q in pieces of %d", text, whole, pieces, n)
		}
		opts.Raw = true
		if raw := through(opts, text, n); a != "" && !strings.Contains(mask, a) && strings.Contains(strings.ReplaceAll(raw, mask, "\x00"), a) && !strings.Contains(a, "\x00") {
			t.Fatalf("%q still shows %q: %q", text, a, raw)
		}
	})
}
