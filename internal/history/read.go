package history

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"time"
)

// Events reads all events that are kept, oldest first. Lines that are none are left out.
func (s Store) Events() ([]Event, error) {
	r := s.Reader()
	defer r.Close()
	var events []Event
	err := r.Next(func(e Event) error {
		events = append(events, e)
		return nil
	})
	return events, err
}

// Reader reads events as they come.
type Reader struct {
	older   string
	current *Tail
}

// Reader begins with the oldest event that is kept.
func (s Store) Reader() *Reader {
	return &Reader{older: s.olderPath(), current: &Tail{Path: s.eventsPath()}}
}

// Close gives the files up.
func (r *Reader) Close() { r.current.Close() }

// Next calls each for every event that was not read yet, without waiting for more.
func (r *Reader) Next(each func(Event) error) error {
	take := func(line []byte) error {
		if e, ok := parse(line); ok {
			return each(e)
		}
		return nil
	}
	if r.older != "" {
		older := &Tail{Path: r.older}
		defer older.Close()
		r.older = ""
		if err := older.Lines(take); err != nil {
			return err
		}
	}
	replaced := r.current.replaced() // asked before the last of the old file is read: what is written there is
	if err := r.current.Lines(take); err != nil || !replaced {
		return err
	}
	r.current.Close()
	return r.current.Lines(take)
}

// lookInterval is how often a file that is followed is looked at.
const lookInterval = 200 * time.Millisecond

// Follow calls each for the last n events (all of them for n < 0) and then for every further one, until ctx ends or each fails.
func (s Store) Follow(ctx context.Context, n int, each func(Event) error) error {
	r := s.Reader()
	defer r.Close()
	var events []Event
	take := func(e Event) error {
		events = append(events, e)
		return nil
	}
	if err := r.Next(take); err != nil {
		return err
	}
	if n >= 0 {
		events = events[max(0, len(events)-n):]
	}
	for _, e := range events {
		if err := each(e); err != nil {
			return err
		}
	}
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		if err := r.Next(each); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Tail reads a file line by line while it grows.
type Tail struct {
	// Path is the file, which may be missing at first, and may be replaced by another.
	Path string

	f    *os.File
	rest []byte
}

// Close gives the file up.
func (t *Tail) Close() {
	if t.f != nil {
		t.f.Close()
		t.f, t.rest = nil, nil
	}
}

// Lines calls each for every whole line that is there now, without its end.
func (t *Tail) Lines(each func(line []byte) error) error {
	if t.f == nil {
		f, err := os.Open(t.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		t.f = f
	}
	chunk := make([]byte, 32<<10)
	for {
		n, err := t.f.Read(chunk)
		t.rest = append(t.rest, chunk[:n]...)
		for {
			line, rest, ok := bytes.Cut(t.rest, []byte("\n"))
			if !ok {
				break
			}
			t.rest = rest
			if err := each(line); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Unfinished is what stands behind the last whole line.
func (t *Tail) Unfinished() []byte { return t.rest }

// replaced tells whether another file has taken the place of the one that is read.
func (t *Tail) replaced() bool {
	if t.f == nil {
		return false
	}
	named, err := os.Stat(t.Path)
	if err != nil {
		return false
	}
	held, err := t.f.Stat()
	return err != nil || !os.SameFile(named, held)
}

// lastLineWithin bounds how long a last line may be, in bytes.
const lastLineWithin = 4 << 10

// LastLine is the last line of a file, or empty.
func LastLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err != nil || size == 0 {
		return ""
	} else if _, err := f.Seek(max(0, size-lastLineWithin), io.SeekStart); err != nil {
		return ""
	}
	raw, _ := io.ReadAll(f)
	raw = bytes.TrimRight(raw, "\n")
	return string(raw[bytes.LastIndexByte(raw, '\n')+1:])
}
