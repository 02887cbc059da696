//go:build linux

package guest

import (
	"bytes"
	"strings"
	"testing"
)

func TestAccountFiles(t *testing.T) {
	s := &Spec{OS: "darwin", User: "admin", UID: 501, GID: 20, HomeDir: "/Users/admin", Shell: "/bin/zsh"}
	base := "root:x:0:0:root:/root:/bin/bash\nsshd:x:102:65534::/run/sshd:/bin/false\nperson:secret:1000:1000::/home/person:/bin/sh\n" +
		"clash:x:501:501::/:/bin/sh\nadmin:x:7:7::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\nbroken\n"
	passwd := passwdFile(base, s)
	want := "root:x:0:0:root:/var/root:/bin/bash\nsshd:x:102:65534::/run/sshd:/bin/false\nnobody:x:65534:65534::/:/bin/false\nadmin:x:501:20:admin:/Users/admin:/bin/zsh\n"
	if passwd != want {
		t.Errorf("passwd: %q, want %q", passwd, want)
	}
	shadow := shadowFile(passwd, "admin", "HASH")
	for _, line := range strings.Split(strings.TrimSpace(shadow), "\n") {
		fields := strings.Split(line, ":")
		if wanted := map[bool]string{true: "HASH", false: "*"}[fields[0] == "admin"]; fields[1] != wanted || len(fields) != 9 {
			t.Errorf("shadow: %q", line)
		}
	}
	groups := groupFile("root:x:0:\ndialout:x:20:person\nstaff:x:50:\ntty:x:5:person\n", s)
	if groups != "root:x:0:\ntty:x:5:\nstaff:x:20:\n" {
		t.Errorf("group: %q", groups)
	}
}

func TestSSHDConfig(t *testing.T) {
	s := &Spec{OS: "darwin", Address: "127.64.1.2", Port: 22}
	text := s.sshdConfig()
	for _, line := range []string{"ListenAddress 127.64.1.2\n", "PasswordAuthentication yes\n", "UsePAM no\n", "SetEnv PATH=/usr/bin:/bin:/usr/sbin:/sbin\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q in %q", line, text)
		}
	}
	s.SSHFault = SSHRefuses
	if text := s.sshdConfig(); !strings.Contains(text, "PasswordAuthentication no\n") || !strings.Contains(text, "AuthorizedKeysFile none\n") {
		t.Errorf("a server that refuses: %q", text)
	}
}

func TestFramesAreReadBack(t *testing.T) {
	var buffer bytes.Buffer
	w := NewFrameWriter(&buffer)
	for _, data := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("y"), MaxFrame)} {
		if err := w.Write(FrameStdout, data); err != nil {
			t.Fatal(err)
		}
		kind, got, err := ReadFrame(&buffer)
		if err != nil || kind != FrameStdout || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: kind %d, %d bytes, %v", len(data), kind, len(got), err)
		}
	}
	if err := w.Write(FrameStdout, make([]byte, MaxFrame+1)); err == nil {
		t.Error("a frame over the limit is written")
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{5, 0, 0, 0, 1, 'x'})
	f.Add([]byte{5, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		kind, content, err := ReadFrame(bytes.NewReader(data))
		if err != nil {
			return
		}
		var buffer bytes.Buffer
		if err := NewFrameWriter(&buffer).Write(kind, content); err != nil || !bytes.HasPrefix(data, buffer.Bytes()) {
			t.Fatalf("%q: written again %q, %v", data, buffer.Bytes(), err)
		}
	})
}
