package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"gitlab-runner-tart-driver/internal/job"
)

// pullOutput shows how a pull goes: lines, and on a terminal a moving bar.
type pullOutput struct {
	w        io.Writer
	log      *job.Log
	terminal bool
	// open says that the bar stands on the last line.
	open bool
}

func newPullOutput(w io.Writer) *pullOutput {
	f, ok := w.(*os.File)
	return &pullOutput{w: w, log: job.NewLog(w, time.Now), terminal: ok && term.IsTerminal(int(f.Fd()))}
}

// line writes a line, below the bar if there is one.
func (o *pullOutput) line(format string, args ...any) {
	if o.open {
		fmt.Fprintln(o.w)
		o.open = false
	}
	o.log.Linef(format, args...)
}

// bar is what moves the bar; nil where there is no terminal.
func (o *pullOutput) bar() func(percent int) {
	if !o.terminal {
		return nil
	}
	return o.draw
}

func (o *pullOutput) draw(percent int) {
	const width = 40
	percent = min(max(percent, 0), 100)
	full := percent * width / 100
	fmt.Fprintf(o.w, "\r\x1b[K  [%s%s] %3d%%", strings.Repeat("#", full), strings.Repeat(" ", width-full), percent)
	o.open = true
}
