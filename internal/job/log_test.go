package job

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

func newTestLog() (*Log, *bytes.Buffer) {
	var buf bytes.Buffer
	now := int64(1700000000)
	return NewLog(&buf, func() time.Time { now++; return time.Unix(now, 999) }), &buf
}

func TestSectionIsWrittenAsGitLabReadsIt(t *testing.T) {
	log, buf := newTestLog()
	end := log.Section("tart_pull", "Pulling image")
	log.Linef("%d%% done", 50)
	end()
	log.Linef("after")
	want := "section_start:1700000001:tart_pull_1700000001000000999\r\x1b[0KPulling image\n50% done\n" +
		"section_end:1700000002:tart_pull_1700000001000000999\r\x1b[0Kafter\n"
	if got := buf.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestSectionsHaveIDsOfTheirOwn(t *testing.T) {
	log, buf := newTestLog()
	log.Section("tart_pull", "Pulling image")()
	log.Section("tart_pull", "Pulling image")()
	count := map[string]int{}
	for _, id := range regexp.MustCompile(`section_(?:start|end):\d+:([A-Za-z0-9_.-]+)\r`).FindAllStringSubmatch(buf.String(), -1) {
		count[id[1]]++
	}
	if len(count) != 2 {
		t.Errorf("ids of two sections: %v in %q", count, buf.String())
	}
	for id, n := range count {
		if n != 2 {
			t.Errorf("%s stands %d times, want a start and an end", id, n)
		}
	}
}

func TestNothingFromOutsideBreaksALine(t *testing.T) {
	log, buf := newTestLog()
	log.Linef("image %s", "x\nsection_end:1:tart_pull\r\x1b[0K\x1b[31mred\x07\x00\u009b31m")
	log.Section("id", "two\nlines\x1b[2J")
	got := buf.String()
	want := "image x\uFFFDsection_end:1:tart_pull\uFFFD\uFFFD[0K\uFFFD[31mred\uFFFD\uFFFD\uFFFD31m\n" +
		"section_start:1700000001:id_1700000001000000999\r\x1b[0Ktwo\uFFFDlines\uFFFD[2J\n"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestErrorsThatWereJoinedAreOneLine(t *testing.T) {
	log, buf := newTestLog()
	err := errors.Join(errors.New("first"), fmt.Errorf("second: %w", errors.Join(errors.New("a"), errors.New("b\x1b"))))
	args := []any{1, err, "x\ny"}
	log.Linef("warning %d: %v (%s)", args...)
	if got, want := buf.String(), "warning 1: first; second: a; b\uFFFD (x\uFFFDy)\n"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if args[1] != err {
		t.Errorf("the caller's arguments are changed to %v", args)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                "",
		"plain":           "plain",
		"tab\tstays":      "tab\tstays",
		"é 漢 🙂":           "é 漢 🙂",
		"a\nb\rc":         "a\uFFFDb\uFFFDc",
		"\x1b[0K":         "\uFFFD[0K",
		"del\x7f":         "del\uFFFD",
		"c1 \u0080\u009f": "c1 \uFFFD\uFFFD",
		"\u00a0":          "\u00a0",
		"bad \xc3\x28":    "bad \uFFFD(",
		"\xff\xfe":        "\uFFFD",
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\nb\x1b[0K\xff\u009b")
	f.Fuzz(func(t *testing.T, s string) {
		got := Printable(s)
		bad := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 }
		if !utf8.ValidString(got) || strings.ContainsFunc(got, bad) {
			t.Errorf("Printable(%q) = %q", s, got)
		}
		if Printable(got) != got {
			t.Errorf("Printable(%q) is not printable: %q becomes %q", s, got, Printable(got))
		}
	})
}

func TestLinesOfSeveralStayWhole(t *testing.T) {
	log, buf := newTestLog()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 50 {
				log.Linef("%s", strings.Repeat(fmt.Sprint(i), 40))
				log.Section("s", "h")()
			}
		})
	}
	all.Wait()
	for line := range strings.Lines(buf.String()) {
		line = strings.TrimSuffix(line, "\n")
		if i := strings.LastIndexByte(line, 'K'); i >= 0 { // a section's end has no line end of its own
			line = line[i+1:]
		}
		if line != "" && line != "h" && (len(line) != 40 || strings.Trim(line, line[:1]) != "") {
			t.Fatalf("a line is %q", line)
		}
	}
}

func TestTook(t *testing.T) {
	for in, want := range map[time.Duration]string{
		0:                                       "0.00 s",
		340 * time.Millisecond:                  "0.34 s",
		9*time.Second + 990000*time.Microsecond: "9.99 s",
		10 * time.Second:                        "10.0 s",
		12*time.Second + 340*time.Millisecond:   "12.3 s",
		59*time.Second + 900*time.Millisecond:   "59.9 s",
		time.Minute:                             "1 min 0 s",
		119*time.Second + 600*time.Millisecond:  "2 min 0 s",
		125 * time.Second:                       "2 min 5 s",
		90*time.Minute + time.Second:            "90 min 1 s",
	} {
		if got := Took(in); got != want {
			t.Errorf("%d ns: got %q, want %q", in, got, want)
		}
	}
}
