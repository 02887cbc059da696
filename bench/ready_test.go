package main

import (
	"net/netip"
	"strings"
	"testing"
)

func TestHasListener(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 5FD0667F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 128 1 0 100 0 0 10 0
   1: 0100007F:C598 79BA7A7F:0016 06 00000000:00000000 03:0000116C 00000000     0        0 0 3 0
   2: 0200007F:0016 79BA7A7F:C111 01 00000000:00000000 03:0000116C 00000000     0        0 0 3 0
`
	for at, want := range map[string]bool{"127.102.208.95:22": true, "127.102.208.95:23": false, "127.102.208.96:22": false, "127.0.0.2:22": false} {
		if got := hasListener(strings.NewReader(table), netip.MustParseAddrPort(at)); got != want {
			t.Errorf("%s: got %v", at, got)
		}
	}
}

func TestParseSSHLog(t *testing.T) {
	const log = `11:49:21.557 tart run vm --no-graphics
11:49:21.600 isolation root, ssh server openssh, address 127.102.208.95 port 22, system files of the host
Server listening on 127.102.208.95 port 22.
kex_exchange_identification: Connection closed by remote host
Connection closed by 127.0.0.1 port 60780
Connection closed by 127.0.0.1 port 60782 [preauth]
Failed password for admin from 127.0.0.1 port 60784 ssh2
Connection closed by authenticating user admin 127.0.0.1 port 60784 [preauth]
Accepted password for admin from 127.0.0.1 port 60788 ssh2
Received disconnect from 127.0.0.1 port 60788:11: disconnected by user
Disconnected from user admin 127.0.0.1 port 60788
`
	if got, want := parseSSHLog(log), (sshCounts{known: true, connections: 4, logins: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
