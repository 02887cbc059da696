package trial

import (
	"bytes"
	"io"
	"sync"
)

// tap passes output of a stage on, shows it to the hook, and keeps a copy where that is wanted. Once it is sealed, output of a process
// that could not be killed goes nowhere: the stage's result is final, and so is the job's log at its end.
type tap struct {
	to   io.Writer
	hook func([]byte)
	keep bool

	mu     sync.Mutex
	kept   bytes.Buffer
	sealed bool
}

func (a *attempt) tap(stage string, stream Stream, to io.Writer) *tap {
	t := &tap{to: to, keep: a.t.opts.Capture}
	if output := a.t.opts.Hooks.Output; output != nil {
		t.hook = func(p []byte) { output(a.t, stage, stream, p) }
	}
	return t
}

// Write never fails: a stage must not notice who reads its output.
func (t *tap) Write(p []byte) (int, error) {
	t.mu.Lock()
	open := !t.sealed
	if open {
		if t.keep {
			t.kept.Write(p)
		}
		t.to.Write(p)
	}
	t.mu.Unlock()
	if open && t.hook != nil {
		t.hook(p)
	}
	return len(p), nil
}

// seal ends the recording and returns it.
func (t *tap) seal() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sealed = true
	return t.kept.Bytes()
}

// lockedWriter lets several goroutines write to one writer.
type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
