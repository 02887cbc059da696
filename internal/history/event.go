package history

import (
	"bytes"
	"encoding/json"
	"os"
	"time"
	"unicode/utf8"
)

// Kind is what happened.
type Kind string

// The kinds of events.
const (
	PrepareBegan Kind = "prepare_began"
	// Waiting is a wait for a place on the host: told when it begins, and when the place in line changes.
	Waiting      Kind = "waiting"
	PrepareEnded Kind = "prepare_ended"
	ScriptBegan  Kind = "script_began"
	// ScriptEnded has the script's exit code, or the error that kept it from ending by itself: that the VM was lost, for one.
	ScriptEnded  Kind = "script_ended"
	CleanupBegan Kind = "cleanup_began"
	CleanupEnded Kind = "cleanup_ended"
	// These are what a VM's keeper is at from then on, and Reason says why: the guest is ready, the VM is the job's, it is held although the job is over, it has
	// ended by itself, it is being destroyed.
	VMReady      Kind = "vm_ready"
	VMKept       Kind = "vm_kept"
	VMHeld       Kind = "vm_held"
	VMDead       Kind = "vm_dead"
	VMDestroying Kind = "vm_destroying"
	// VMHoldAsked says that somebody wants the VM to be held when the job is over.
	VMHoldAsked Kind = "vm_hold_asked"
	// VMRemoved is the end of a record, whoever removes it.
	VMRemoved Kind = "vm_removed"
	// Swept names what a sweep has removed.
	Swept Kind = "swept"
)

// OfKeeper tells whether a VM's keeper says so. Its log says it, too.
func (k Kind) OfKeeper() bool {
	switch k {
	case VMReady, VMKept, VMHeld, VMDead, VMDestroying, VMHoldAsked:
		return true
	}
	return false
}

// Event is something that happened on the host.
type Event struct {
	Time time.Time `json:"time"`
	Kind Kind      `json:"event"`
	// JobID and Project say which job it happened to.
	JobID   string `json:"job,omitempty"`
	Project string `json:"project,omitempty"`
	VM      string `json:"vm,omitempty"`
	Image   string `json:"image,omitempty"`
	// Stage is GitLab Runner's name of the script that run was called with, such as build_script.
	Stage string `json:"stage,omitempty"`
	// PID is the process that it happened in, and Start when that began, see proc.ID.
	PID   int   `json:"pid,omitempty"`
	Start int64 `json:"pid_start,omitempty"`
	// TookMS is in milliseconds.
	TookMS int64 `json:"took_ms,omitempty"`
	// Steps are those of prepare, in order.
	Steps []Step `json:"steps,omitempty"`
	// Position is the place in line, 1 for the next, and Running who has the host's places.
	Position int      `json:"position,omitempty"`
	Running  []string `json:"running,omitempty"`
	// ExitCode is the script's.
	ExitCode *int `json:"exit_code,omitempty"`
	// Error says what went wrong, and Blame whose fault it is: job, for a job's or a setting's, or host.
	Error string `json:"error,omitempty"`
	Blame string `json:"blame,omitempty"`
	// Reason is what has moved a VM's keeper.
	Reason string `json:"reason,omitempty"`
	// Until is when a held VM goes, and ForMS, in milliseconds, how long one is to be held.
	Until *time.Time `json:"until,omitempty"`
	ForMS int64      `json:"for_ms,omitempty"`
	// VMs were removed by a sweep.
	VMs []string `json:"vms,omitempty"`
	// LastWords are the last line of the keeper's log.
	LastWords string `json:"last_words,omitempty"`
}

// Step is a step of prepare.
type Step struct {
	Step   string `json:"step"`
	TookMS int64  `json:"took_ms"`
}

// maxLine bounds an event's line in bytes. Appending as little as that in one write is atomic on every file system that a state directory may be on.
const maxLine = 4000

// Note writes an event down, if there is room. A state directory that is not there is not made.
func (s Store) Note(e Event) {
	if !s.Roomy() {
		return
	}
	f, err := os.OpenFile(s.eventsPath(), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.Write(e.line())
}

// line is the event as one line; what is too long for that is cut.
func (e Event) line() []byte {
	e.Time = e.Time.UTC().Truncate(time.Millisecond)
	for most := 1000; ; most /= 2 {
		cut := e.shortened(most)
		var b bytes.Buffer
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		// Marshalling fails for no Event; of times, only for years beyond 9999.
		if err := encoder.Encode(cut); err != nil || b.Len() <= maxLine || most == 0 {
			return b.Bytes()
		}
	}
}

// shortened has texts of at most most bytes, and lists of at most a 25th as many items.
func (e Event) shortened(most int) Event {
	for _, text := range []*string{&e.JobID, &e.Project, &e.VM, &e.Image, &e.Stage, &e.Error, &e.Reason, &e.LastWords} {
		*text = cut(*text, most)
	}
	items := most / 25
	texts := func(list []string) []string {
		var out []string
		for _, text := range list[:min(len(list), items)] {
			out = append(out, cut(text, most/5))
		}
		return out
	}
	e.Running, e.VMs = texts(e.Running), texts(e.VMs)
	var steps []Step
	for _, step := range e.Steps[:min(len(e.Steps), items)] {
		steps = append(steps, Step{cut(step.Step, most/5), step.TookMS})
	}
	e.Steps = steps
	return e
}

// cut shortens a text to at most most bytes.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// parse reads an event from a line. A line that a full disk has torn has the next one behind it.
func parse(line []byte) (Event, bool) {
	var e Event
	if json.Unmarshal(line, &e) == nil && e.Kind != "" {
		return e, true
	}
	if i := bytes.LastIndex(line, []byte(`{"time":"`)); i > 0 {
		e = Event{}
		return e, json.Unmarshal(line[i:], &e) == nil && e.Kind != ""
	}
	return e, false
}
