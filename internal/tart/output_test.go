package tart

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// emitted writes the chunks and returns the lines that came out, and what was kept.
func emitted(t *testing.T, chunks ...[]byte) (lines []string, kept []byte) {
	t.Helper()
	var keep bytes.Buffer
	w := &lineWriter{keep: &keep, emit: func(s string) { lines = append(lines, s) }}
	for _, c := range chunks {
		if n, err := w.Write(c); n != len(c) || err != nil {
			t.Fatalf("Write of %d bytes returned %d, %v", len(c), n, err)
		}
	}
	return lines, keep.Bytes()
}

func TestLineWriter(t *testing.T) {
	for _, c := range []struct {
		chunks string // separated by |
		want   []string
	}{
		{"one\ntwo\n", []string{"one", "two"}},
		{"o|n|e|\n|t|wo|\n", []string{"one", "two"}},
		{"10%\r20%\r30%\n", []string{"10%", "20%", "30%"}},
		{"one\r|\ntwo\r\n", []string{"one", "two"}},
		{"\n\n \t \n||\n", nil},
		{"  indented  \n", []string{"indented"}},
		{"whole\npart", []string{"whole"}},
	} {
		var chunks [][]byte
		for part := range strings.SplitSeq(c.chunks, "|") {
			chunks = append(chunks, []byte(part))
		}
		if got, _ := emitted(t, chunks...); !slices.Equal(got, c.want) {
			t.Errorf("%q gives %q, want %q", c.chunks, got, c.want)
		}
	}
}

func TestLineWriterKeepsTheEnd(t *testing.T) {
	var all bytes.Buffer
	var chunks [][]byte
	for i := range 20000 {
		chunk := fmt.Appendf(nil, "line %d\n", i)
		all.Write(chunk)
		chunks = append(chunks, chunk)
	}
	lines, kept := emitted(t, chunks...)
	if len(lines) != 20000 || lines[19999] != "line 19999" {
		t.Errorf("%d lines came out, the last is %q", len(lines), lines[len(lines)-1])
	}
	if len(kept) != maxKept || !bytes.HasSuffix(all.Bytes(), kept) {
		t.Errorf("%d bytes are kept, want the last %d", len(kept), maxKept)
	}
	big := bytes.Repeat([]byte("x"), 3*maxKept)
	if _, kept := emitted(t, big); len(kept) != maxKept {
		t.Errorf("of one big write %d bytes are kept, want %d", len(kept), maxKept)
	}
}

func FuzzLineWriter(f *testing.F) {
	f.Add([]byte("one\ntwo\r\nthree"), 1)
	f.Add([]byte("10%\r20%\r\n\n"), 3)
	f.Fuzz(func(t *testing.T, out []byte, size int) {
		if size < 1 {
			size = 1
		}
		var chunks [][]byte
		for c := range slices.Chunk(out, size) {
			chunks = append(chunks, c)
		}
		whole, _ := emitted(t, out)
		pieces, _ := emitted(t, chunks...)
		if !slices.Equal(whole, pieces) {
			t.Errorf("%q in one write gives %q, in pieces of %d %q", out, whole, size, pieces)
		}
		for _, line := range whole {
			if line == "" || strings.ContainsAny(line, "\r\n") {
				t.Errorf("%q gives the line %q", out, line)
			}
		}
	})
}

// listing is a `tart list --format json` of 2.35, in an order of keys that Swift made up, with a field from the future.
const listing = `[
  {"State":"running","Name":"base","Size":17,"Accessed":"2026-02-23T12:00:00Z","Source":"local","Running":true,"Disk":50},
  {"Running":false,"Disk":50,"Name":"ghcr.io/o/macos:15","Future":{"a":[1]},"Source":"OCI","Size":17,"State":"stopped"},
  {"Name":"ghcr.io/o/macos@sha256:00","Source":"OCI","State":"stopped","Running":false,"SizeOnDisk":12}
]`

func TestParseList(t *testing.T) {
	got, err := parseList([]byte(listing))
	want := []VM{
		{Source: "local", Name: "base", Size: 17, Accessed: Time{time.Date(2026, 2, 23, 12, 0, 0, 0, time.UTC)}, State: "running", Running: true},
		{Source: "OCI", Name: "ghcr.io/o/macos:15", Size: 17, State: "stopped"},
		{Source: "OCI", Name: "ghcr.io/o/macos@sha256:00", State: "stopped"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if !got[0].Local() || got[1].Local() {
		t.Error("Local does not tell a VM from a cached image")
	}
	if got, err := parseList([]byte("[]\n")); err != nil || len(got) != 0 {
		t.Errorf("an empty list gives %v, %v", got, err)
	}
	for _, garbage := range []string{
		"", "\n", "{}", `"x"`, "7", "true", "[", "[1]", `["a"]`, "[{}] x", "[{}][{}]",
		`[{"Name":1}]`, `[{"Running":"yes"}]`,
		"Source Name Disk Size Accessed State\nlocal base 50 17 3 minutes ago stopped\n",
		"waiting for lock...\n[]",
	} {
		if got, err := parseList([]byte(garbage)); err == nil {
			t.Errorf("%q is taken for the list %v", garbage, got)
		}
	}
}

func FuzzParseList(f *testing.F) {
	f.Add([]byte(listing))
	f.Add([]byte("[]"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		vms, err := parseList(raw)
		if err != nil && (vms != nil || KindOf(err) != KindOther) {
			t.Errorf("an error, and yet %v; kind %d", vms, KindOf(err))
		}
	})
}
