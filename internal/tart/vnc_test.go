package tart

import "testing"

func TestVNCAddress(t *testing.T) {
	for log, want := range map[string]string{
		"VNC server is running at vnc://192.168.64.7\n":                                                                   "vnc://192.168.64.7",
		"restoring VM state from a snapshot...\nVNC server is running at vnc://:a-b-c-d@127.0.0.1:5901\nStopping VM...\n": "vnc://:a-b-c-d@127.0.0.1:5901",
		"Opening vnc://192.168.64.7...\n":                                                                                 "vnc://192.168.64.7",
		"VNC server is running at vnc://192.168.64.7\nVNC server is running at vnc://192.168.64.8\n":                      "vnc://192.168.64.8",
		"":                                      "",
		"guest has stopped the virtual machine": "",
		"VNC server is running at http://192.168.64.7\n": "",
		"VNC server is running at vnc://\n":              "",
		"Opening the door...\n":                          "",
	} {
		got, ok := VNCAddress([]byte(log))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q: %v, %v, want %q", log, got, ok, want)
		}
	}
}
