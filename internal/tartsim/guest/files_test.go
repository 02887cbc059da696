//go:build linux

package guest

import (
	"bytes"
	"os"
	"path/filepath"
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

func TestSSHDCommand(t *testing.T) {
	s := &Spec{OS: "darwin", Address: "127.64.1.2", Port: 22, SSHD: "/usr/sbin/sshd"}
	words := strings.Join(s.sshdCommand("-i"), " ")
	for _, part := range []string{"/usr/sbin/sshd -i -e -f /etc/ssh/sshd_config ", " ListenAddress=127.64.1.2 ", " SetEnv=PATH=/usr/bin:/bin:/usr/sbin:/sbin"} {
		if !strings.Contains(words, part) {
			t.Errorf("no %q in %q", part, words)
		}
	}
	s.SSHFault = SSHRefuses
	if words := strings.Join(s.sshdCommand("-i"), " "); !strings.Contains(words, "PasswordAuthentication=no") || !strings.Contains(words, "AuthorizedKeysFile=none") {
		t.Errorf("a server that refuses: %q", words)
	}
}

func TestSSHDOption(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"plain":    "# Key a\n  kEy=b\nKey c\nOther d\n",
		"matched":  "Key global\nMatch User somebody\nKey theirs\nMatch all\nKey everybody\nKey again\n",
		"others":   "Match User somebody\nKey theirs\nInclude " + dir + "/plain\n",
		"included": "Include " + dir + "/oth* " + dir + "/mat* " + dir + "/none\nKey mine\n",
		"within":   "Match all\nInclude " + dir + "/plain\n",
		"around":   "Include " + dir + "/around\nKey end\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"plain": "b", "matched": "everybody", "others": "", "included": "everybody", "within": "b", "around": "end", "none": ""} {
		if got := sshdOption(filepath.Join(dir, name), "key"); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
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
