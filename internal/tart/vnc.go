package tart

import (
	"net/url"
	"strings"
)

// VNCAddress finds the address of a VM's screen in what `tart run` has printed; the last one counts. ok is false where there is none: the VM
// was started without --vnc, or has no address yet.
// https://github.com/openai/tart/blob/main/Sources/tart/Commands/Run.swift
func VNCAddress(log []byte) (address *url.URL, ok bool) {
	for line := range strings.Lines(string(log)) {
		line = strings.TrimSpace(line)
		text, found := strings.CutPrefix(line, "VNC server is running at ")
		if !found {
			if text, found = strings.CutPrefix(line, "Opening "); !found {
				continue
			}
			text = strings.TrimRight(text, ".…")
		}
		if u, err := url.Parse(text); err == nil && u.Scheme == "vnc" && u.Host != "" {
			address, ok = u, true
		}
	}
	return address, ok
}
