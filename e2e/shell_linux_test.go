package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// console is a person's terminal: what its keys send, and what it shows.
type console struct {
	t      *testing.T
	master *os.File
	slave  *os.File

	mu    sync.Mutex
	shown []byte
}

func newConsole(t *testing.T) *console {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &console{t: t, master: master, slave: slave}
	c.resize(80, 24)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			c.mu.Lock()
			c.shown = append(c.shown, buf[:n]...)
			c.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { slave.Close(); master.Close() })
	return c
}

func (c *console) resize(columns, rows uint16) {
	if err := unix.IoctlSetWinsize(int(c.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		c.t.Error(err)
	}
}

func (c *console) typed(keys string) {
	if _, err := c.master.WriteString(keys); err != nil {
		c.t.Error(err)
	}
}

// sees takes what is shown up to a text, if it is there.
func (c *console) sees(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := bytes.Index(c.shown, []byte(text))
	if i >= 0 {
		c.shown = c.shown[i+len(text):]
	}
	return i >= 0
}

// open starts a program at the terminal.
func (c *console) open(env []string, args ...string) *exec.Cmd {
	c.t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(env, "TERM=xterm-direct")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.slave, c.slave, c.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	return cmd
}

// modes are how the terminal is set.
func (c *console) modes() string {
	state, err := term.GetState(int(c.slave.Fd()))
	if err != nil {
		c.t.Error(err)
	}
	return fmt.Sprint(state)
}

func TestShellWithTerminal(t *testing.T) { overTransports(t, testShellWithTerminal) }

// testShellWithTerminal sits at a terminal: the VM's has its size, ^C ends what runs there and not the session, and it is afterwards what it
// was before.
func testShellWithTerminal(t *testing.T, h *mac) {
	j := failing("30m")
	j.Script = []string{`echo "PS1='at'; PS1=\$PS1'> '" > ~/.zshrc`, "exit 3"}
	r := h.run(j)
	c := newConsole(t)
	before := c.modes()
	see := func(text string) {
		t.Helper()
		h.eventually("the terminal shows "+text, func() bool { return c.sees(text) })
	}
	shell := c.open(h.environ(), h.bin, "ssh", id(r))
	for _, step := range []struct{ types, shows string }{
		{`echo "ready $((40 + 2))"; tty` + "\r", "ready 42\r\n/dev/"},
		{`echo "size $(stty size) $TERM"` + "\r", "size 24 80 xterm-direct"},
	} {
		see("at> ")
		c.typed(step.types)
		see(step.shows)
	}
	see("at> ")
	c.typed(`echo "small $(stty size)"; until [ "$(stty size)" = "30 100" ]; do sleep 0.1; done; echo "large $(stty size)"` + "\r")
	see("small 24 80")
	c.resize(100, 30)
	see("large 30 100")
	see("at> ")
	// What says that it sleeps is what ^C is for: it has the terminal by then.
	c.typed(`sh -c 'echo "asleep $((1 + 1))"; exec sleep 300'; echo "awake $((2 + 2)) $?"` + "\r")
	see("asleep 2")
	c.typed("\x03")
	see("at> ")
	c.typed("exit 9\r")
	_ = shell.Wait()
	if code := shell.ProcessState.ExitCode(); code != 9 {
		t.Errorf("the shell ends with %d", code)
	}
	if after := c.modes(); after != before {
		t.Errorf("the terminal is not what it was: %s, and not %s", after, before)
	}

	// Nor is it another one when the VM goes under the shell.
	shell = c.open(h.environ(), h.bin, "ssh", id(r), "--", `echo "second $((40 + 2))"; sleep 300`)
	see("second 42")
	h.expect(0, "is gone", "release", id(r))
	_ = shell.Wait()
	see("error: the VM is being destroyed")
	if code := shell.ProcessState.ExitCode(); code != 2 {
		t.Errorf("the shell ends with %d", code)
	}
	if after := c.modes(); after != before {
		t.Errorf("the terminal is not what it was: %s, and not %s", after, before)
	}
	h.assertClean()
}
