package e2e

// theImages are what the registries of the pages have, as arguments for `tartsim image create`: a reference, and flags.
var theImages = [][]string{{theImage}}

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
	{page: "docs/getting-started.md", command: `(gitlab-runner-tart-driver setup( --image [^#]*)?)(#.*)?`, why: "there is nobody to ask", instead: `$1 --yes`},

	{command: `(gitlab-runner-tart-driver (ps --watch|events -f|logs 4711 -f))`, why: "they go on until ^C", instead: `endless $1`},
	{page: "docs/debugging.md", command: `.* --job-response .*`, why: "GitLab Runner has the file", before: `cp "$TMPDIR"/custom-executor*/response.json .`},

	{page: "docs/hold.md", command: `(gitlab-runner-tart-driver vnc 4711) --open .*`, why: "Screen Sharing is a Mac's", instead: `$1`},
	{page: "docs/hold.md", command: `gitlab-runner-tart-driver release 4711 .*`, why: "the job has to be over first",
		before: `gitlab-runner-tart-driver ssh 4711 -- touch /tmp/go; until gitlab-runner-tart-driver ps --json | grep held_until; do sleep 0.1; done`},

	{page: "docs/tartsim.md", command: `go build -o (\S+) .*`, why: "it is built already", instead: `ln -s "$$DIR/bin/tartsim" "$1"`},
	{page: "docs/tartsim.md", command: `ssh admin@(\$\(tart ip job --wait 10\)) .*`, why: "ssh asks for a password", instead: `echo $1`},
}

// places are directories of pages that are others on the test's host, by page.
var places = map[string][2]string{
	"docs/tartsim.md": {"/tmp/", "$DIR/t/"},
}

// pictures are blocks of text that say nothing to try: the page, and how they begin.
var pictures = [][2]string{
	{"docs/design.md", "gitlab-runner ─► config"},              // the processes
	{"docs/design.md", "cmd/gitlab-runner-tart-driver   main"}, // the packages
}

// foreign are flags and variables that pages name and the driver's help and table don't: hidden ones, and those of other programs.
var foreign = []string{
	"root",                                                                   // hidden, for tests
	"TART_REGISTRY_HOSTNAME",                                                 // gitlab-tart-executor's
	"TART_HOME",                                                              // Tart's
	"rosetta", "serial", "vnc-experimental", "resolver", "provisioning-opts", // of tart
	"net", // of unshare
}
