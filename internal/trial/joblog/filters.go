package joblog

import "bytes"

// mask is what stands in a log in place of a masked value.
const mask = "[MASKED]"

// masker replaces phrases in a stream, also where one is cut in two by the boundary of a write.
type masker struct {
	phrases [][]byte // longest first
	first   [256]bool
	held    []byte // what may be the beginning of a phrase
}

// firstBytes marks the bytes with which a phrase can begin.
func firstBytes(phrases [][]byte) (first [256]bool) {
	for _, p := range phrases {
		first[p[0]] = true
	}
	return first
}

// filter returns what can be shown after p has arrived.
func (m *masker) filter(p []byte) []byte {
	if len(m.phrases) == 0 {
		return p
	}
	data := p
	if len(m.held) > 0 {
		data = append(m.held, p...)
		m.held = nil
	}
	var out []byte
	for at := 0; at < len(data); {
		if !m.first[data[at]] {
			end := at + 1
			for end < len(data) && !m.first[data[end]] {
				end++
			}
			out = append(out, data[at:end]...)
			at = end
			continue
		}
		n, partial := m.match(data[at:])
		switch {
		case partial:
			m.held = bytes.Clone(data[at:])
			return out
		case n > 0:
			out = append(out, mask...)
			at += n
		default:
			out = append(out, data[at])
			at++
		}
	}
	return out
}

// match tells how long the phrase is with which data begins, or that data ends before a longer phrase can be told apart.
func (m *masker) match(data []byte) (n int, partial bool) {
	for _, p := range m.phrases {
		if bytes.HasPrefix(data, p) {
			return len(p), false
		}
		if len(data) < len(p) && bytes.HasPrefix(p, data) {
			return 0, true
		}
	}
	return 0, false
}

// flush returns what was held back at the end of the stream. A complete shorter phrase in it is still hidden.
func (m *masker) flush() []byte {
	data := m.held
	m.held = nil
	var out []byte
	for len(data) > 0 {
		n := 0
		for _, p := range m.phrases {
			if bytes.HasPrefix(data, p) {
				n = len(p)
				break
			}
		}
		if n > 0 {
			out = append(out, mask...)
		} else {
			n = 1
			out = append(out, data[0])
		}
		data = data[n:]
	}
	return out
}

// A section marker is
//
//	section_start:UNIX_TIME:NAME[OPTIONS]\r\x1b[0K
//
// with options only at the start of a section. Its parts have bounds here, so that a stream that looks like one is not held for ever.
const (
	markerPrefix = "section_"
	markerEnd    = "\r\x1b[0K"
	maxMarker    = 1024
)

// sectionFilter takes section markers out of a stream, also where one is cut in two by the boundary of a write. A line that
// consists of nothing but the end of a section goes with it.
type sectionFilter struct {
	held     []byte
	midLine  bool // something visible stands on the current line
	cleared  int  // how many bytes of the code for "clear to the end of the line" have been seen
	swallow  bool // the end of a section stood alone so far: a line break that follows belongs to it
	swallowR bool // … and its carriage return has been seen
}

func (f *sectionFilter) filter(p []byte) []byte {
	data := p
	if len(f.held) > 0 {
		data = append(f.held, p...)
		f.held = nil
	}
	var out []byte
	for len(data) > 0 {
		at, partial := find(data)
		if at < 0 {
			return f.emit(out, data)
		}
		out = f.emit(out, data[:at])
		data = data[at:]
		if partial {
			f.held = bytes.Clone(data)
			return out
		}
		n, isEnd, more := parseMarker(data)
		if more {
			f.held = bytes.Clone(data)
			return out
		}
		if n == 0 {
			out = f.emit(out, data[:1])
			data = data[1:]
			continue
		}
		data = data[n:]
		f.swallow = isEnd && !f.midLine
	}
	return out
}

// emit appends text that is not part of a marker, without the line break that belongs to a marker.
func (f *sectionFilter) emit(out, text []byte) []byte {
	for f.swallow && len(text) > 0 {
		switch {
		case text[0] == '\r' && !f.swallowR:
			f.swallowR = true
			text = text[1:]
			continue
		case text[0] == '\n':
			text = text[1:]
		case f.swallowR:
			out = append(out, '\r')
		}
		f.swallow, f.swallowR = false, false
	}
	if len(text) == 0 {
		return out
	}
	f.follow(text)
	return append(out, text...)
}

// follow keeps track of whether something visible stands on the current line. GitLab's documentation has people write the code for
// "clear to the end of the line" before a marker; it is not visible.
func (f *sectionFilter) follow(text []byte) {
	const clear = "\x1b[0K"
	if at := bytes.LastIndexByte(text, '\n'); at >= 0 {
		text = text[at+1:]
		f.midLine, f.cleared = false, 0
	}
	for _, c := range text {
		if f.midLine {
			return
		}
		f.midLine = c != clear[f.cleared]
		f.cleared = (f.cleared + 1) % len(clear)
	}
}

// flush returns what was held back at the end of the stream.
func (f *sectionFilter) flush() []byte {
	held := f.held
	f.held = nil
	out := f.emit(nil, held)
	if f.swallowR {
		out = append(out, '\r')
	}
	f.swallow, f.swallowR = false, false
	return out
}

// find returns where a marker may begin, or -1. partial says that data ends before that can be told.
func find(data []byte) (at int, partial bool) {
	if at = bytes.Index(data, []byte(markerPrefix)); at >= 0 {
		return at, false
	}
	for n := min(len(markerPrefix)-1, len(data)); n > 0; n-- {
		if bytes.HasSuffix(data, []byte(markerPrefix[:n])) {
			return len(data) - n, true
		}
	}
	return -1, false
}

// parseMarker returns the length of the marker at the start of data; 0 where there is none, more where data ends too early to tell.
func parseMarker(data []byte) (n int, isEnd, more bool) {
	rest := data
	cut := func(want string) bool {
		if len(rest) < len(want) {
			more = bytes.HasPrefix([]byte(want), rest)
			return false
		}
		ok := bytes.HasPrefix(rest, []byte(want))
		rest = rest[len(want):]
		return ok
	}
	span := func(allowed func(byte) bool) bool {
		i := 0
		for i < len(rest) && allowed(rest[i]) {
			i++
		}
		rest = rest[i:]
		more = len(rest) == 0
		return i > 0 && !more
	}
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	name := func(c byte) bool {
		return digit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-' || c == '.'
	}
	option := func(c byte) bool { return c != ']' && c != '\r' && c != '\n' }
	ok := cut(markerPrefix)
	if ok {
		isEnd = len(rest) > 0 && rest[0] == 'e'
		kind := "start:"
		if isEnd {
			kind = "end:"
		}
		ok = cut(kind) && span(digit) && cut(":") && span(name)
	}
	if ok && rest[0] == '[' {
		rest = rest[1:]
		ok = (span(option) || len(rest) > 0) && cut("]")
	}
	if ok && cut(markerEnd) {
		return len(data) - len(rest), isEnd, false
	}
	return 0, false, more && len(data) < maxMarker
}
