package cli

import (
	"bytes"
	"testing"
)

func TestPullOutput(t *testing.T) {
	var out bytes.Buffer
	o := newPullOutput(&out)
	if o.bar() != nil {
		t.Error("a bar moves where there is no terminal")
	}
	o.terminal = true
	bar := o.bar()
	o.line("pulling %s", "x\x1b[2J")
	bar(0)
	bar(50)
	bar(1000)
	o.line("done")
	o.line("more")
	want := "pulling x\uFFFD[2J\n" +
		"\r\x1b[K  [                                        ]   0%" +
		"\r\x1b[K  [####################                    ]  50%" +
		"\r\x1b[K  [########################################] 100%" +
		"\ndone\nmore\n"
	if got := out.String(); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestShortDigest(t *testing.T) {
	for digest, want := range map[string]string{"": "", "sha256:0123456789abcdef": "0123456789ab", "sha256:01": "01"} {
		if got := shortDigest(digest); got != want {
			t.Errorf("%q: got %q", digest, got)
		}
	}
}
