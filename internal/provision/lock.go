package provision

import (
	"fmt"

	"gitlab-runner-tart-driver/internal/guest"
)

// Lock is how a guest's SSH server comes to take one key and nothing else, from anybody.
type Lock struct {
	// Key is the public key, as a line of authorized_keys.
	Key string
	// Check has the guest itself check it. Who logs in afterwards knows better.
	Check bool
}

// Exit codes of Lock's script.
const (
	// ExitLock: the SSH server can't be set up. The last answer says why.
	ExitLock = 6
	// ExitNoRoot: the user can't become root.
	ExitNoRoot = 7
)

// Script is a script for a POSIX sh.
func (l Lock) Script() string {
	check := ""
	if l.Check {
		check = "yes"
	}
	return prologue + fmt.Sprintf(`if command -v sudo >/dev/null; then set -- sudo -n; elif [ "$(id -u)" = 0 ]; then set --
else say "the VM has no sudo"; exit %[2]d; fi
me=${USER:-$(id -un)}
"$@" /bin/sh -c %[1]s sh %[3]s "$me" %[4]s
s=$?
case $s in 0|%[5]d) exit $s ;; esac
say "user \"$me\" of the VM cannot use sudo without a password"
exit %[2]d
`, guest.Quote(lockProgram), ExitNoRoot, guest.Quote(l.Key), guest.Quote(check), ExitLock)
}

// lockProgram does it as root. Of several values the first one counts, and those of a Match block count before those outside. So a Match block for
// everybody that comes before all others is stronger than all that an image can have. Since other files may have some, it is in a file of its own
// that is included before anything else. A server whose configuration has no Include may be too old to know it: it gets the values in front of all
// others, and once more in front of the first Match. AuthenticationMethods shuts out what no other line names. The key is where neither the state of
// a home directory nor a job's script can take it away, and keys that an image has are out.
// https://man.openbsd.org/sshd_config#Match
//
// A server that listens reads its configuration when it starts, and on SIGHUP. It makes its pid file anew when it has done so. macOS has a server
// for each connection, and may have made no host keys before the first, without which it does not tell what it makes of its configuration either.
//
//	$1 key  $2 user  $3 not empty: check
const lockProgram = `umask 022
fail() { printf 'grtd: %s\n' "$*"; exit 6; }
conf=/etc/ssh/sshd_config
ours=/etc/ssh/grtd_sshd_config
[ -r $conf ] || fail "the VM has no $conf"
{
  echo "$1" > /etc/ssh/grtd_keys && echo 'Match all
AuthenticationMethods publickey
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile /etc/ssh/grtd_keys
AuthorizedKeysCommand none
TrustedUserCAKeys none' > $ours &&
  cp -p $conf $conf.grtd && if grep -qi '^[[:blank:]]*include[[:blank:]=]' $conf; then
    { echo "Include $ours" && cat $conf; } > $conf.grtd
  else
    awk -v f=$ours 'function ours(skip) { while ((getline line < f) > 0) if (skip-- <= 0) print line; close(f) }
      BEGIN { ours(1) }
      tolower($0) ~ /^[ \t]*match[ \t=]/ && done++ == 0 { ours(0) }
      { print }' $conf > $conf.grtd
  fi && mv -f $conf.grtd $conf
} || fail "/etc/ssh cannot be written in the VM"

f=/run/sshd.pid
pid=
[ -s $f ] && read -r pid < $f
if [ "$pid" ] && rm -f $f && kill -HUP "$pid" 2>/dev/null; then
  n=0
  until [ -s $f ] || [ $n -ge 250 ]; do n=$((n+1)); sleep 0.02; done
  [ -s $f ] || fail "the VM's SSH server did not come back when told to read $conf again"
elif [ -d /run/systemd/system ] && { systemctl reload ssh || systemctl reload sshd; } 2>/dev/null; then
  :
elif [ "$3" ] && [ "$(uname -s)" = Linux ] && { ! command -v pgrep >/dev/null || pgrep -x sshd >/dev/null; }; then
  fail "the VM's SSH server has no pid file, so it cannot be told to read $conf again"
fi
check() { now=$(sshd -T -C user="$1",host=localhost,addr=127.0.0.1 2>&1); }
if [ "$3" ]; then
  check "$2" || { ssh-keygen -A >/dev/null 2>&1; check "$2"; } || fail "the VM's SSH server does not take its configuration: $now"
  echo "$now" | grep -qix 'authenticationmethods publickey' || fail "the VM's SSH server does not go by $conf"
fi
`
