//go:build linux

package guest

import (
	"fmt"
	"strings"
)

// Of macOS 15.6 on Apple silicon.
const (
	darwinRelease = "24.6.0"
	darwinBuild   = "24G84"
)

// Commands that scripts ask what system they are on are cheap on macOS, so these are no calls of the stand-in's own, large program.

// unameScript answers as Darwin on Apple silicon.
const unameScript = `#!/bin/sh
w=$*; [ -n "$w" ] || w=-s
case $w in *a*) w=-snrvm;; esac
o=; add() { case $w in *$1*) o="$o${o:+ }$2";; esac; }
read -r host < /proc/sys/kernel/hostname
add s Darwin; add n "$host"; add r ` + darwinRelease + `; add v 'Darwin Kernel Version ` + darwinRelease + `'; add m arm64; add p arm
echo "$o"
`

// swVersScript answers as sw_vers does, with the version that the image has.
func swVersScript(version string) string {
	return fmt.Sprintf(`#!/bin/sh
version='%s'
case $(echo "$1" | tr A-Z a-z) in
'') printf 'ProductName:\t\tmacOS\nProductVersion:\t\t%%s\nBuildVersion:\t\t%s\n' "$version" ;;
-productname | --productname) echo macOS ;;
-productversion | --productversion) echo "$version" ;;
-buildversion | --buildversion) echo %s ;;
*) echo "sw_vers: unknown option $1" >&2; exit 1 ;;
esac
`, strings.ReplaceAll(version, "'", `'\''`), darwinBuild, darwinBuild)
}

// systemVersionPath is where macOS says which one it is.
const systemVersionPath = "System/Library/CoreServices/SystemVersion.plist"

func systemVersion(version string) string {
	return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>ProductBuildVersion</key>
	<string>` + darwinBuild + `</string>
	<key>ProductName</key>
	<string>macOS</string>
	<key>ProductVersion</key>
	<string>` + version + `</string>
</dict>
</plist>
`
}
