package proc

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestOfSelfIsAlive(t *testing.T) {
	id, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !id.Alive() {
		t.Error("this process is not alive")
	}
	for name, other := range map[string]ID{
		"other start": {PID: id.PID, Start: id.Start + 1, Boot: id.Boot},
		"other boot":  {PID: id.PID, Start: id.Start, Boot: "before"},
		"zero":        {},
	} {
		if other.Alive() {
			t.Errorf("%s: %+v counts as alive", name, other)
		}
	}
}

func TestEndedChildIsGone(t *testing.T) {
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	id, err := Of(cmd.Process.Pid)
	if err != nil || !id.Alive() {
		t.Fatalf("child not alive: %v", err)
	}
	if id.WaitGone(0) {
		t.Fatal("a living child counts as gone")
	}
	id.SignalGroup(syscall.SIGKILL)
	if !id.WaitGone(10 * time.Second) { // a zombie until Wait, which must count as gone
		t.Fatal("killed child still counts as alive")
	}
	_ = cmd.Wait()
	if _, err := Of(id.PID); err == nil {
		t.Error("an ended pid has an ID")
	}
}

func TestCommonAncestor(t *testing.T) {
	mine := Ancestors(os.Getpid())
	if len(mine) == 0 {
		t.Skip("this process is a child of init: nothing to compare")
	}
	a, b, c := ID{PID: 1001, Start: 1}, ID{PID: 1002, Start: 1}, ID{PID: 1003, Start: 1}
	got, ok := Common([]ID{a, c, mine[0]}, []ID{b, c, mine[0]})
	if !ok || got != c {
		t.Errorf("common ancestor = %v %v, want %v", got, ok, c)
	}
	if got, ok := Common([]ID{a}, []ID{b}); ok {
		t.Errorf("strangers have %v in common", got)
	}
}

func TestDescendants(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("sh", "-c", "sh -c 'echo up; read -r x'; true")
	cmd.Stdout = w
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := r.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	self, err := Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	found := Descendants(os.Getpid())
	if family := Descendants(self.PID); len(family) != 1 || !family[0].Alive() || !slices.Contains(found, self) || !slices.Contains(found, family[0]) {
		t.Errorf("%v has %v, and this process %v", self, family, found)
	}
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if family := Descendants(self.PID); len(family) != 0 {
		t.Errorf("a process that is gone has %v", family)
	}
}
