package job

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Log writes the driver's own lines into the job log. All go to one stream: GitLab Runner keeps no order between two.
type Log struct {
	mu  sync.Mutex
	w   io.Writer
	now func() time.Time
}

// NewLog makes a log on w.
func NewLog(w io.Writer, now func() time.Time) *Log { return &Log{w: w, now: now} }

// Linef writes a line. Control characters of values that came from outside don't reach the log.
func (l *Log) Linef(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.w, Line(format, args...))
}

// Section starts a collapsible section of the job log and returns what ends it. GitLab tells sections by their ids, and a job may pull more than once, also
// in several attempts at prepare, which are processes of their own: so the time is part of the id.
// https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections
func (l *Log) Section(name, header string) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	began := l.now()
	id := fmt.Sprintf("%s_%d", name, began.UnixNano())
	l.mark("section_start", began, id, header)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.mark("section_end", l.now(), id, "")
	}
}

// mark writes a mark, for whoever holds the lock.
func (l *Log) mark(what string, at time.Time, id, header string) {
	fmt.Fprintf(l.w, "%s:%d:%s\r\x1b[0K%s", what, at.Unix(), id, Printable(header))
	if header != "" {
		fmt.Fprintln(l.w)
	}
}

// Line is a formatted text on one line. Errors that were joined have a line each, and stand behind one another here.
func Line(format string, args ...any) string {
	if false {
		_ = fmt.Sprintf(format, args...) // by this, go vet knows to check calls
	}
	plain := slices.Clone(args)
	for i, arg := range plain {
		if err, ok := arg.(error); ok {
			plain[i] = strings.ReplaceAll(err.Error(), "\n", "; ")
		}
	}
	return Printable(fmt.Sprintf(format, plain...))
}

// Printable replaces control characters, line ends among them, and invalid UTF-8.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// Took writes a duration as people read it: 0.34 s, 12.3 s, 2 min 5 s.
func Took(d time.Duration) string {
	switch {
	case d < 9995*time.Millisecond:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < 59950*time.Millisecond:
		return fmt.Sprintf("%.1f s", d.Seconds())
	default:
		d = d.Round(time.Second)
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
}
