package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// altered makes an image of `base` whose user's shell starts with a line of a job's own choice.
func (h *mac) altered(name, line string) {
	h.t.Helper()
	h.tartDo("clone", "base", name)
	run := exec.Command(h.tart, "run", name, "--no-graphics")
	run.Env = h.environ()
	if err := run.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.eventually("the agent answers", func() bool {
		c := exec.Command(h.tart, "exec", name, "/bin/sh", "-c", `printf '%s\n' "$1" > "$HOME/.zshenv"`, "sh", line)
		c.Env = h.environ()
		return c.Run() == nil
	})
	h.tartDo("stop", name)
	_ = run.Wait()
}

// most is the largest resident size that any process of the host has had, in MB, and the largest size of its state directory.
func (h *mac) most(stop <-chan struct{}) (rss, disk int64) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		for pid, cmd := range h.processes() {
			if !strings.Contains(cmd, "driver") {
				continue
			}
			raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			for line := range strings.Lines(string(raw)) {
				var kb int64
				if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kb); err == nil {
					rss = max(rss, kb>>10)
				}
			}
		}
		var sum int64
		_ = filepath.WalkDir(h.state(), func(_ string, d os.DirEntry, err error) error {
			if err == nil {
				if st, err := d.Info(); err == nil {
					sum += st.Size()
				}
			}
			return nil
		})
		disk = max(disk, sum>>20)
	}
}

func TestFloodAtSurvey(t *testing.T) {
	for _, transport := range []string{"ssh", "agent"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			h := newMac(t, "--transport", transport, "--timeout", "60")
			// The agent's programs are run by sh, not by the login shell: what they call is the image's too.
			h.altered("flood", `yes 0123456789012345678901234567890123456789`)
			stop, done := make(chan struct{}), make(chan struct{})
			var rss int64
			go func() { defer close(done); rss, _ = h.most(stop) }()
			r := h.call("prepare", responseOf(t, map[string]any{"image.name": "flood"}), nil)
			close(stop)
			<-done
			if transport == "ssh" && (r.code != 102 || !strings.Contains(r.stderr, "prints without end")) {
				t.Errorf("prepare ended with %d and said %.2000s", r.code, r.stderr)
			}
			if rss > 200 {
				t.Errorf("the driver took %d MB of the host's memory", rss)
			}
		})
	}
}

func TestFloodWhileSettingUp(t *testing.T) {
	t.Parallel()
	h := newMac(t)
	h.altered("flood", `[ ! -e /tmp/.seen2 ] || head -c 1000000000 /dev/zero; [ ! -e /tmp/.seen ] || : > /tmp/.seen2; : > /tmp/.seen`)
	stop, done := make(chan struct{}), make(chan struct{})
	var rss, disk int64
	go func() { defer close(done); rss, disk = h.most(stop) }()
	r := h.call("prepare", responseOf(t, map[string]any{"image.name": "flood"}), []string{"TART_EXECUTOR_TIMEZONE", "Europe/Berlin"})
	close(stop)
	<-done
	if r.code != 102 {
		t.Errorf("prepare ended with %d and said %.2000s", r.code, r.stderr)
	}
	if rss > 200 || disk > 100 {
		t.Errorf("the driver took %d MB of the host's memory, %d MB of its disk", rss, disk)
	}
}
