package provision

// prologue: the script may be run by zsh, which has ways of its own with words. say prints an answer; root runs a command as it is, or else
// with sudo.
const prologue = `[ -n "$ZSH_VERSION" ] && emulate sh
self=$0
say() { printf 'grtd: %s\n' "$*"; }
root() { "$@" 2>/dev/null || sudo -n "$@"; }
`

// mountFunctions put a share at its place. macOS mounts all shares under one directory by itself, some time after login; a link leads from the
// place that the job wants to there. A path with a space never shows, since some build tools can't deal with one. Linux mounts the shares
// itself. What stood at the place before is moved aside, not deleted and not linked into. Every share is then read, and written to where that
// should be possible: a mount that fails silently would cost a day to find.
// https://tart.run/quick-start/#mounting-directories
const mountFunctions = `auto='/Volumes/My Shared Files'
if [ "$(uname -s)" = Linux ]; then
  auto=/mnt/grtd-shares
  if ! mountpoint -q "$auto"; then
    root mkdir -p "$auto" && root mount -t virtiofs com.apple.virtio-fs.automount "$auto" || { say "shares cannot be mounted: mount -t virtiofs failed"; exit 3; }
  fi
fi
share() {
  from=$auto/$1
  n=0
  while [ ! -d "$from" ]; do
    n=$((n+1))
    [ $n -le $share_wait ] || { say "$4: the share does not appear at $from in the VM"; return 1; }
    sleep 0.1
  done
  if [ -L "$2" ]; then
    root rm -f "$2"
  elif [ -e "$2" ]; then
    root rmdir "$2" 2>/dev/null || root mv "$2" "$2.before-share" || { say "$4: what stands at $2 in the VM cannot be moved aside"; return 1; }
  fi
  root mkdir -p "$(dirname "$2")" && root ln -s "$from" "$2" || { say "$4: no link can be made at $2 in the VM"; return 1; }
  ls "$2/" >/dev/null || { say "$4: cannot be read at $2 in the VM"; return 1; }
  if [ "$3" = rw ]; then
    probe=$2/.grtd-probe-$$
    { echo probe > "$probe" && [ "$(cat "$probe")" = probe ] && rm "$probe"; } 2>/dev/null || { rm -f "$probe" 2>/dev/null; say "$4: cannot be written at $2 in the VM"; return 1; }
  fi
}
`

// timezoneFunction sets the time zone. systemsetup is macOS's own way; it needs root, and says little where it fails.
const timezoneFunction = `timezone() {
  [ -f "/usr/share/zoneinfo/$1" ] || { say "the VM does not know the time zone $1"; return 1; }
  if [ "$(uname -s)" = Darwin ] && command -v systemsetup >/dev/null; then
    root systemsetup -settimezone "$1" >/dev/null 2>&1
  elif command -v timedatectl >/dev/null && root timedatectl set-timezone "$1" 2>/dev/null; then
    return 0
  fi
  case "$(readlink /etc/localtime)" in */"$1") return 0 ;; esac
  root ln -sf "/usr/share/zoneinfo/$1" /etc/localtime && { [ ! -e /etc/timezone ] || root sh -c 'echo "$1" > /etc/timezone' sh "$1"; } ||
    { say "the time zone cannot be set in the VM"; return 1; }
}
`

// checkFunction finds out whether the guest has GitLab Runner.
const checkFunction = `runner_version() { "$1" --version 2>/dev/null | sed -n 's/^Version: *//p'; }
check_runner() { have=$(runner_version gitlab-runner); say "runner=$have"; }
`

// installFunction gives the guest GitLab Runner: the host's own, which follows this script in the same file, or else one that is fetched by
// curl, wget or brew, in the order of the Python driver's README. It takes the place of one that is there, or else /usr/local/bin, which is on
// every login shell's PATH on macOS and Linux. The new file takes the old one's name: macOS kills a program that was written over after it had run.
// https://docs.gitlab.com/runner/install/osx/ https://developer.apple.com/documentation/security/updating-mac-software
const installFunction = `install_runner() {
  case "$1" in ''|latest) tag=latest ;; *) tag=v${1#v} ;; esac
  case "$(uname -m)" in arm64|aarch64) arch=arm64 ;; *) arch=amd64 ;; esac
  url=https://gitlab-runner-downloads.s3.amazonaws.com/$tag/binaries/gitlab-runner-$(uname -s | tr '[:upper:]' '[:lower:]')-$arch
  file=$(mktemp /tmp/gitlab-runner.XXXXXX) || return 1
  place=$(command -v gitlab-runner) || place=/usr/local/bin/gitlab-runner
  tried=
  how=
  for way in $2; do
    [ $way = host ] || command -v "$way" >/dev/null || continue
    tried="$tried $way"
    case $way in
      host) tail -c +"$3" "$self" > "$file" || continue ;;
      curl) curl -fsSL --retry 3 -o "$file" "$url" || continue ;;
      wget) wget -q -O "$file" "$url" || continue ;;
      brew)
        [ $tag = latest ] || { say "brew installs the newest GitLab Runner only, not $1"; continue; }
        brew install gitlab-runner >/dev/null && how=brew && break
        continue ;;
    esac
    chmod 755 "$file"
    [ -n "$(runner_version "$file")" ] || { say "GitLab Runner of $way does not start in the VM"; continue; }
    root mkdir -p "$(dirname "$place")" && root cp "$file" "$place.new" && root chmod 755 "$place.new" && root mv -f "$place.new" "$place" && how=$way && break
  done
  rm -f "$file"
  if [ -z "$how" ]; then
    say "GitLab Runner ($tag) cannot be installed in the VM; tried:${tried:- nothing, for the VM has none of $2}"
    return 1
  fi
  have=$(runner_version gitlab-runner)
  [ -n "$have" ] || have=$(runner_version /usr/local/bin/gitlab-runner)
  [ -n "$have" ] || { say "GitLab Runner was installed by $how, but does not start"; return 1; }
  say "how=$how"
  say "runner=$have"
}
`
