package keeper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/proc"
)

// pair is two ends of a socket. Nothing on it waits for ever.
func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		conn, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		conns[i] = conn.(*net.UnixConn)
	}
	return conns[0], conns[1]
}

// someFile is an open file with a text in it.
func someFile(t *testing.T, text string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// openDescriptors counts this process's descriptors of a file.
func openDescriptors(t *testing.T, f *os.File) int {
	t.Helper()
	want, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for fd := range 1024 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil {
			continue
		}
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			continue
		}
		g := os.NewFile(uintptr(dup), "dup")
		if got, err := g.Stat(); err == nil && os.SameFile(got, want) {
			n++
		}
		g.Close()
	}
	return n
}

var fullRequest = Request{Version: ProtocolVersion, Op: opExec, JobKey: "42-abc", Shell: "/bin/zsh", Ancestors: []proc.ID{{PID: 7, Start: 8, Boot: "b\n\""}}}

// TestLimitOfOneMessage does not hold for the next: setting up a guest may take longer than that.
func TestLimitOfOneMessage(t *testing.T) {
	a, b := pair(t)
	if err := sendWithin(-1, a, fullRequest); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a limit that has passed: %v", err)
	}
	if err := send(a, fullRequest); err != nil {
		t.Error(err)
	}
	var got Request
	if err := (&receiver{conn: b}).next(&got); err != nil || !reflect.DeepEqual(got, fullRequest) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestMessagesWithDescriptors(t *testing.T) {
	a, b := pair(t)
	files := []*os.File{someFile(t, "script"), someFile(t, "stdout"), someFile(t, "stderr")}
	if err := send(a, fullRequest, files...); err != nil {
		t.Fatal(err)
	}
	in := &receiver{conn: b}
	var got Request
	if err := in.next(&got); err != nil || !reflect.DeepEqual(got, fullRequest) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, fullRequest)
	}
	if len(in.files) != 3 {
		t.Fatalf("%d descriptors came, want 3", len(in.files))
	}
	for i, want := range []string{"script", "stdout", "stderr"} {
		if text, err := io.ReadAll(in.files[i]); string(text) != want || err != nil {
			t.Errorf("descriptor %d reads %q, %v, want %q", i, text, err, want)
		}
		if flags, err := unix.FcntlInt(in.files[i].Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d would be inherited by children: flags %#x, %v", i, flags, err)
		}
	}
	in.closeFiles()
	for i, f := range files {
		if n := openDescriptors(t, f); n != 1 {
			t.Errorf("after closeFiles, %d descriptors of file %d are open, want our own only", n, i)
		}
	}
	in.closeFiles() // twice does no harm
}

func TestTooManyDescriptorsDoNotStay(t *testing.T) {
	a, b := pair(t)
	f := someFile(t, "x")
	many := make([]*os.File, 40)
	for i := range many {
		many[i] = f
	}
	if err := send(a, fullRequest, many...); err != nil {
		t.Fatal(err)
	}
	in := &receiver{conn: b}
	var got Request
	_ = in.next(&got) // what it says is not the point
	in.closeFiles()
	if n := openDescriptors(t, f); n != 1 {
		t.Errorf("%d descriptors are open, want 1", n)
	}
}

func TestMessagesInPieces(t *testing.T) {
	a, b := pair(t)
	raw, err := json.Marshal(fullRequest)
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, '\n')
	f := someFile(t, "with the first byte")
	if _, _, err := a.WriteMsgUnix(raw[:1], unix.UnixRights(int(f.Fd())), nil); err != nil {
		t.Fatal(err)
	}
	go func() {
		for i := 1; i < len(raw); i++ {
			if _, err := a.Write(raw[i : i+1]); err != nil {
				t.Error(err)
			}
		}
	}()
	in := &receiver{conn: b}
	defer in.closeFiles()
	var got Request
	if err := in.next(&got); err != nil || !reflect.DeepEqual(got, fullRequest) || len(in.files) != 1 {
		t.Errorf("got %+v and %d descriptors, %v", got, len(in.files), err)
	}
}

func TestSeveralMessagesAtOnce(t *testing.T) {
	a, b := pair(t)
	if _, err := a.Write([]byte("{\"op\":\"1\"}\n{\"op\":\"2\"}\nnonsense\n{\"op\":\"3\"}\n{\"op\":\"4")); err != nil {
		t.Fatal(err)
	}
	a.Close()
	in := &receiver{conn: b}
	for _, want := range []string{"1", "2", "", "3"} {
		var got Request
		if err := in.next(&got); got.Op != want || (err != nil) != (want == "") {
			t.Errorf("got %q, %v, want %q", got.Op, err, want)
		}
	}
	for range 2 {
		var got Request
		if err := in.next(&got); err == nil {
			t.Errorf("after the end: %+v", got)
		}
	}
}

func TestLargeMessages(t *testing.T) {
	a, b := pair(t)
	want := Request{Version: 1, Op: strings.Repeat("x", maxMessage-1000), Shell: "after"}
	sent := make(chan error, 1)
	go func() { sent <- send(a, want, os.Stdin) }() // more than a socket takes at once
	in := &receiver{conn: b}
	defer in.closeFiles()
	var got Request
	if err := in.next(&got); err != nil || !reflect.DeepEqual(got, want) || len(in.files) != 1 {
		t.Errorf("%d bytes and %d descriptors came, %v", len(got.Op), len(in.files), err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestEndlessMessagesAreRefused(t *testing.T) {
	a, b := pair(t)
	go func() {
		chunk := bytes.Repeat([]byte("x"), 64<<10)
		for {
			if _, err := a.Write(chunk); err != nil {
				return
			}
		}
	}()
	in := &receiver{conn: b}
	var got Request
	if err := in.next(&got); err == nil || !strings.Contains(err.Error(), fmt.Sprint(maxMessage)) {
		t.Errorf("got %+v, %v", got, err)
	}
	if len(in.buf) > 2*maxMessage {
		t.Errorf("%d bytes are kept", len(in.buf))
	}
	b.Close()
}

func TestSendToNobody(t *testing.T) {
	a, b := pair(t)
	b.Close()
	if err := send(a, fullRequest); err == nil {
		t.Error("no error")
	}
	if err := send(a, func() {}); err == nil {
		t.Error("what is no message was sent")
	}
}

func FuzzReceiver(f *testing.F) {
	f.Add([]byte("{\"op\":\"exec\"}\n{\"op\":1}\n\n{}"), 1)
	f.Add([]byte("null\n[]\n{\"version\":7,\"ancestors\":[{\"pid\":1}]}\n"), 5)
	f.Fuzz(func(t *testing.T, raw []byte, size int) {
		if len(raw) > 8<<10 { // fits into a socket's buffer
			raw = raw[:8<<10]
		}
		a, b := pair(t)
		cut := min(max(size, 0), len(raw))
		for _, part := range [][]byte{raw[:cut], raw[cut:]} {
			if _, err := a.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		a.Close()
		in := &receiver{conn: b}
		for {
			line, more, whole := bytes.Cut(raw, []byte("\n"))
			var got, want Request
			err := in.next(&got)
			if !whole {
				if err == nil {
					t.Errorf("%q without a line end is a message: %+v", line, got)
				}
				return
			}
			raw = more
			wantErr := json.Unmarshal(line, &want)
			if (err != nil) != (wantErr != nil) || !reflect.DeepEqual(got, want) {
				t.Errorf("%q: got %+v, %v, want %+v, %v", line, got, err, want, wantErr)
			}
		}
	})
}

func TestFailuresComeThroughWhole(t *testing.T) {
	for _, want := range []*job.Failure{
		job.Mistake(errors.New("wrong password"), "set %s", "it"),
		job.Infrastructure(errors.New("no route"), ""),
	} {
		for name, err := range map[string]error{"bare": want, "joined": errors.Join(want)} {
			raw, merr := json.Marshal(Event{Failed: packFailure(err)})
			if merr != nil {
				t.Fatal(merr)
			}
			var event Event
			if uerr := json.Unmarshal(raw, &event); uerr != nil {
				t.Fatal(uerr)
			}
			got := (*job.Failure)(nil)
			if !errors.As(event.Failed.Unpack(), &got) || got.Job != want.Job || got.Error() != want.Error() || got.Hint != want.Hint {
				t.Errorf("%s: got %+v, want %+v", name, got, want)
			}
		}
	}
	plain := packFailure(errors.New("something")).Unpack()
	if got := (*job.Failure)(nil); !errors.As(plain, &got) || got.Job || got.Error() != "something" || got.Hint != "" {
		t.Errorf("a plain error became %+v", plain)
	}
}
