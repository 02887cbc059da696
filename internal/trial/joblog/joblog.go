// Package joblog writes a job's log as a person reads it: what the stages print in the order in which it arrives, between the messages
// that GitLab Runner adds, with masked values hidden and the markers of GitLab's collapsible sections taken out.
//
// It decides nothing about the job. A log that can't be written does not stop a stage: the failure is reported once.
package joblog

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Colours of GitLab Runner's messages.
const (
	boldRed   = "\x1b[31;1m"
	boldGreen = "\x1b[32;1m"
	boldCyan  = "\x1b[36;1m"
	yellow    = "\x1b[0;33m"
	reset     = "\x1b[0;m"
	clearLine = "\x1b[0K"
)

// Options say where a log goes and what is left out of it.
type Options struct {
	// Out receives the log.
	Out io.Writer
	// Masked are values that must not appear in it.
	Masked []string
	// Raw keeps section markers, and adds GitLab Runner's own.
	Raw bool
	// Keep makes Bytes return the log.
	Keep bool
	// OnError is called once, with the first error of Out. It may be nil.
	OnError func(error)
	// Now is the clock for section markers; nil means time.Now.
	Now func() time.Time
}

// Log is the log of one job. Its methods may be called from several goroutines.
type Log struct {
	opts   Options
	masked [][]byte
	own    *Stream

	mu     sync.Mutex
	err    error
	closed bool
	kept   bytes.Buffer
}

// New starts a log.
func New(opts Options) *Log {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	l := &Log{opts: opts, masked: phrases(opts.Masked)}
	l.own = l.Stream()
	return l
}

// phrases returns the values without repetition, longest first, so that a value that contains another is hidden as a whole.
func phrases(values []string) [][]byte {
	values = slices.Clone(values)
	slices.SortFunc(values, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	var out [][]byte
	for _, v := range slices.Compact(values) {
		if v != "" {
			out = append(out, []byte(v))
		}
	}
	return out
}

// write puts finished text into the log.
func (l *Log) write(p []byte) {
	if len(p) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if l.opts.Keep {
		l.kept.Write(p)
	}
	if l.err != nil {
		return
	}
	if _, l.err = l.opts.Out.Write(p); l.err != nil && l.opts.OnError != nil {
		l.opts.OnError(l.err)
	}
}

// Close ends the log. What a stage writes later, because it could not be killed, goes nowhere.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// Bytes returns a copy of what has been written so far, "" unless Keep was asked for.
func (l *Log) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.kept.Bytes())
}

// Stream is one source of output, such as a stage's stderr. Values and markers are recognised across its writes.
type Stream struct {
	log *Log

	mu       sync.Mutex
	masks    masker
	sections sectionFilter
}

// Stream returns a new source of output. Close it to see the last bytes.
func (l *Log) Stream() *Stream {
	return &Stream{log: l, masks: masker{phrases: l.masked, first: firstBytes(l.masked)}}
}

// Write takes output of the stage; it never fails, because a stage must not notice that nobody reads the log.
func (s *Stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass(s.masks.filter(p))
	return len(p), nil
}

// Close writes what was held back because it could have been the beginning of a masked value or of a marker.
func (s *Stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass(s.masks.flush())
	s.log.write(s.sections.flush())
	return nil
}

func (s *Stream) pass(p []byte) {
	if !s.log.opts.Raw {
		p = s.sections.filter(p)
	}
	s.log.write(p)
}

// message writes one line of GitLab Runner's own.
func (l *Log) message(prefix, text string) {
	fmt.Fprintf(l.own, "%s%s%s\n", prefix, text, reset)
	l.own.Close()
}

// Print writes a plain message.
func (l *Log) Print(text string) { l.message(clearLine, text) }

// Title writes the headline of a stage.
func (l *Log) Title(text string) { l.message(clearLine, boldCyan+text+reset) }

// Info writes a message that stands out as good news.
func (l *Log) Info(text string) { l.message(boldGreen, text) }

// Warning writes a message about something the job survives.
func (l *Log) Warning(text string) { l.message(yellow+"WARNING: ", text) }

// Error writes a message about a failure.
func (l *Log) Error(text string) { l.message(boldRed+"ERROR: ", text) }

// Section runs do between the markers of a collapsible section, which only a raw log shows.
//
// Source: https://docs.gitlab.com/ci/jobs/job_logs/#custom-collapsible-sections
func (l *Log) Section(name string, do func() error) error {
	l.marker("section_start", name)
	defer l.marker("section_end", name)
	return do()
}

func (l *Log) marker(kind, name string) {
	if l.opts.Raw {
		l.write([]byte(fmt.Sprintf("%s:%d:%s\r%s", kind, l.opts.Now().Unix(), name, clearLine)))
	}
}
