package image

import (
	"strconv"
	"strings"
)

// throttle lets through what a person wants to see of tart's progress: words, and every tenth percent. A bar gets every percent.
type throttle struct {
	say  func(string, ...any)
	bar  func(percent int)
	ref  Reference
	next int
}

func newThrottle(say func(string, ...any)) *throttle { return &throttle{say: say, next: 10} }

func (t *throttle) line(line string) {
	percent, ok := parsePercent(line)
	switch {
	case line == "pulling "+t.ref.Name+"...": // has been said
	case !ok && line == "waiting for lock...": // tart pulls one image of a registry at a time
		t.say("  waiting: another image of %s is being pulled on this host", t.ref.Host)
	case !ok:
		t.say("  %s", line)
	case t.bar != nil:
		t.bar(percent)
	default:
		t.percent(percent)
	}
}

func (t *throttle) percent(percent int) {
	if percent < t.next {
		if percent < t.next-10 {
			t.next = 10 // tart starts over, with the next disk
		}
		return
	}
	t.say("  %d%%", percent)
	t.next = percent/10*10 + 10
}

func parsePercent(line string) (int, bool) {
	number, ok := strings.CutSuffix(line, "%")
	percent, err := strconv.Atoi(number)
	return percent, ok && err == nil
}
