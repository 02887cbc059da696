package e2e

// theImages are what the registries of the pages have, as arguments for `tartsim image create`: a reference, and flags.
var theImages = [][]string{
	{theImage, "--size", "25000000000"},
	{"ghcr.io/cirruslabs/macos-sequoia-xcode:16.2"},
	{"registry.example.com/ci/macos:15", "--registry-user", "ci", "--registry-password", "PASSWORD"},
	{"registry.example.com/ci/xcode:16", "--registry-user", "ci", "--registry-password", "PASSWORD", "--size", "25000000000", "--pull-duration", "1s"},
}

// deviation is a command of the pages that is not typed as it stands there.
type deviation struct {
	// page is where; empty for any page.
	page string
	// command is a regular expression for the whole command.
	command string
	// why says what keeps it from being typed, or from ending as it would on the reader's host.
	why string
	// instead is typed in its place, with $1 and so on for groups of command. With nothing here, in before and in code, nothing is typed, and only the
	// calls of the driver in it are looked at.
	instead string
	// before has to happen first: the reader does it, or the time that passes between two blocks.
	before string
	// code is the exit code.
	code int
}

// deviations are all there are; the first that fits counts.
var deviations = []deviation{
	{command: `make (.*)`, why: "these take minutes, and CI makes them", instead: `make -n -C "$$REPO" $1`},
	{command: `brew install .*`, why: "Homebrew and what comes from it are a Mac's"},
	{command: `(for .*)?sudo defaults write .*`, why: "defaults are a Mac's"},

	{page: "README.md", command: `(CI_SERVER_URL=.*)glrt-… (gitlab-runner-tart-driver setup)`, why: "a token is not shown, and there is nobody to ask",
		instead: `${1}glrt-abcdefghijklmnop $2 --yes`},
	{page: "docs/getting-started.md", command: `(gitlab-runner-tart-driver setup( --(image|tls-ca-file|no-verify)[^#]*)?)(#.*)?`, why: "there is nobody to ask", instead: `$1 --yes`},

	{command: `(gitlab-runner-tart-driver (ps --watch|events -f|logs 4711 -f))`, why: "they go on until ^C", instead: `endless $1`},
	{page: "docs/debugging.md", command: `.* --job-response .*`, why: "GitLab Runner has the file", before: `cp "$TMPDIR"/custom-executor*/response.json .`},

	{page: "docs/hold.md", command: `(gitlab-runner-tart-driver vnc 4711) --open .*`, why: "Screen Sharing is a Mac's", instead: `$1`},
	{page: "docs/hold.md", command: `gitlab-runner-tart-driver release 4711 .*`, why: "the job has to be over first",
		before: `gitlab-runner-tart-driver ssh 4711 -- touch /tmp/go; until gitlab-runner-tart-driver ps --json | grep held_until; do sleep 0.1; done`},

	{page: "docs/images.md", command: `tart login (\S+) .*`, why: "it asks for user and password", instead: `printf PASSWORD | tart login $1 --username ci --password-stdin`},
	{page: "docs/running-many-macs.md", command: `.* setup .*--config .*`, why: "the file is put onto the Mac",
		before: `cp "$DIR/blocks/running-many-macs.md-0.toml" ~/.gitlab-runner/tart-driver.toml`},
	{page: "docs/running-many-macs.md", command: `(for .*)ssh "\$mac" /usr/local/bin/(.*)`, why: "there is one Mac", instead: `$1$2`},
	{command: `launchctl .*`, why: "launchd is a Mac's"},

	{page: "docs/tartsim.md", command: `go build -o (\S+) .*`, why: "it is built already", instead: `ln -s "$$DIR/bin/tartsim" "$1"`},
	{page: "docs/tartsim.md", command: `ssh admin@(\$\(tart ip job --wait 10\)) .*`, why: "ssh asks for a password", instead: `echo $1`},
}

// places are directories of pages that are others on the test's host, by page.
var places = map[string][2]string{
	"docs/tartsim.md": {"/tmp/", "$DIR/t/"},
}

// untried are blocks that nothing is done with.
var untried = []struct{ page, begins, why string }{
	{"docs/design.md", "gitlab-runner ─► config", "a picture"},
	{"docs/design.md", "cmd/gitlab-runner-tart-driver   main", "a list"},
	{"docs/images.md", "packer {", "Packer and its plugin are not here"},
}

// foreign are flags and variables that pages name and the driver's help and table don't: hidden ones, and those of other programs.
var foreign = []string{
	"root",                                                                   // hidden, for tests
	"TART_HOME",                                                              // Tart's
	"rosetta", "serial", "vnc-experimental", "resolver", "provisioning-opts", // of tart
	"net",      // of unshare
	"snapshot", // of goreleaser
}
