// Package tartcmd is the stand-in's `tart`: its commands, flags, texts, streams and exit statuses.
//
// It plays Tart as its callers see it and must not do better than Tart: what is odd there is odd here.
package tartcmd

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gitlab-runner-tart-driver/internal/tartsim/argspec"
	"gitlab-runner-tart-driver/internal/tartsim/guest"
	"gitlab-runner-tart-driver/internal/tartsim/simconf"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// tool is the name in usage texts.
const tool = "tart"

// Exit statuses.
const (
	exitFailure = 1
	exitUsage   = 64  // EX_USAGE, argument errors
	exitSetup   = 125 // the stand-in itself is set up wrongly; no exit status of tart
)

// Process is what a call of tart gets from the system.
type Process struct {
	Args    []string // without the program's name
	Environ []string
	Self    string // path of this binary, for starting guests
	Stdin   *os.File
	Stdout  *os.File
	Stderr  *os.File
}

// app is one call of tart.
type app struct {
	Process
	env     map[string]string
	home    *tarthome.Home
	config  simconf.Config
	command *argspec.Command
	args    *argspec.Parsed
	sigint  chan os.Signal

	mu       sync.Mutex
	onCancel []func()
}

// Main runs tart and returns its exit status.
func Main(p Process) int {
	a := &app{Process: p, env: environment(p.Environ), sigint: make(chan os.Signal, 1)}
	// Tart ignores SIGINT from its start and takes it up again later: what comes before is lost.
	signal.Notify(a.sigint, unix.SIGINT)
	// Go would print its stacks on SIGQUIT; Tart simply dies of it.
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, unix.SIGQUIT)
	go func() { guest.DieBy(<-quit) }()
	home, homeErr := tarthome.Open(a.env["TART_HOME"], a.env["HOME"])
	if homeErr == nil {
		a.home = home
		var err error
		if a.config, err = simconf.LoadConfig(home.Dir); err != nil {
			return a.setupFailure(err)
		}
		journal, err := simconf.StartCall(home.Dir, append([]string{tool}, p.Args...), p.Environ)
		if err != nil {
			return a.setupFailure(err)
		}
		code := a.main(nil)
		if err := journal.End(code); err != nil {
			return a.setupFailure(err)
		}
		return code
	}
	return a.main(homeErr)
}

func environment(environ []string) map[string]string {
	env := map[string]string{}
	for _, entry := range environ {
		for i := range entry {
			if entry[i] == '=' {
				env[entry[:i]] = entry[i+1:]
				break
			}
		}
	}
	return env
}

func (a *app) setupFailure(err error) int {
	_, _ = fmt.Fprintf(a.Stderr, "tartsim: %v\n", err)
	return exitSetup
}

func (a *app) print(text string) { _, _ = a.Stdout.WriteString(text) }

func (a *app) println(format string, args ...any) { a.print(fmt.Sprintf(format+"\n", args...)) }

func (a *app) complain(text string) { _, _ = a.Stderr.WriteString(text) }

// main parses the command line and runs the command. homeErr is why TART_HOME can't be used; it matters to commands only.
func (a *app) main(homeErr error) int {
	done, code := a.parse()
	if done {
		return code
	}
	if homeErr != nil {
		return a.report(homeErr)
	}
	if err := a.validate(); err != nil {
		return a.reportParse(err)
	}
	if code, end := a.commandFaults(); end {
		return code
	}
	if name := a.command.Name; name != "pull" && name != "clone" {
		if err := a.home.CollectGarbage(); err != nil {
			a.complain(fmt.Sprintf("Failed to perform garbage collection: %v\n", err))
		}
	}
	if a.command.Name == "run" {
		return a.run()
	}
	return a.cancellable(a.body())
}

// parse handles the command line up to the subcommand's own arguments.
func (a *app) parse() (done bool, code int) {
	table := commandTable(a.config.TartVersion())
	args := a.Args
	if len(args) == 0 || args[0] == "--help" || args[0] == "-h" || args[0] == "help" && len(args) == 1 {
		a.print(argspec.RootHelpText(tool, table))
		return true, 0
	}
	if args[0] == "--version" {
		a.println("%s", a.config.TartVersion())
		return true, 0
	}
	if args[0] == "help" {
		args = append([]string{args[1]}, "--help")
	}
	for i := range table {
		if table[i].Name == args[0] {
			a.command = &table[i]
		}
	}
	if a.command == nil {
		message := fmt.Sprintf("Unexpected argument '%s'", args[0])
		if len(args[0]) > 1 && args[0][0] == '-' {
			message = fmt.Sprintf("Unknown option '%s'", args[0])
		}
		a.complain(argspec.RootErrorText(tool, message))
		return true, exitUsage
	}
	parsed, err := argspec.Parse(a.command, args[1:])
	var usage *argspec.UsageError
	switch {
	case errors.As(err, &usage):
		a.complain(argspec.ErrorText(tool, a.command, usage))
		return true, exitUsage
	case parsed.Help:
		a.print(a.command.HelpText(tool))
		return true, 0
	case parsed.Version:
		a.println("%s", a.config.TartVersion())
		return true, 0
	}
	a.args = parsed
	return false, 0
}

// reportParse prints an error of the validation, which is part of parsing: every error gets the prefix, and exit status 1 or 64.
func (a *app) reportParse(err error) int {
	var invalid *tarthome.ValidationError
	if errors.As(err, &invalid) {
		a.complain(argspec.ErrorText(tool, a.command, &argspec.UsageError{Message: invalid.Text}))
		return exitUsage
	}
	a.complain("Error: " + err.Error() + "\n")
	return exitFailure
}

// exitStatus is not an error but the exit status of a command in a guest.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// report prints a command's error the way its kind asks for and returns the exit status.
func (a *app) report(err error) int {
	var (
		status  exitStatus
		runtime *tarthome.RuntimeError
		invalid *tarthome.ValidationError
	)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &runtime):
		a.complain(runtime.Text + "\n")
		return runtime.Code
	case errors.As(err, &invalid):
		// Tart has forgotten by now which command it was.
		a.complain(argspec.RootErrorText(tool, invalid.Text))
		return exitUsage
	default:
		a.complain("Error: " + err.Error() + "\n")
		return exitFailure
	}
}

func (a *app) body() func() error {
	return map[string]func() error{
		"create": a.create, "clone": a.clone, "set": a.set, "get": a.get, "list": a.list, "ip": a.ip, "exec": a.exec, "prune": a.prune,
		"rename": a.rename, "stop": a.stop, "delete": a.delete, "suspend": a.suspend, "login": a.login, "logout": a.logout, "pull": a.pull,
		"push": a.push, "import": a.importVM, "export": a.export, "fqn": a.fqn,
	}[a.command.Name]
}

// cancellable runs a command's body. SIGINT ends the call at once: tart cancels its task and reports that.
func (a *app) cancellable(body func() error) int {
	finished := make(chan error, 1)
	go func() { finished <- body() }()
	select {
	case err := <-finished:
		return a.report(err)
	case <-a.sigint:
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, undo := range a.onCancel {
			undo()
		}
		return a.report(tarthome.System("CancellationError()"))
	}
}

// cancelWith adds something to do when the call is cancelled.
func (a *app) cancelWith(undo func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.onCancel = append(a.onCancel, undo)
}

// wait passes time. It is not a sleep that somebody could not interrupt: the whole body is abandoned on SIGINT.
func wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}
