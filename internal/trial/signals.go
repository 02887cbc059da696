package trial

import (
	"os"
	"syscall"
)

// Obey lets a person at a terminal cancel the job: the first SIGINT or SIGTERM is a soft cancel, the second one aborts. SIGHUP aborts at
// once: there is nobody left to ask a second time. say is told what happens. Obey returns when the job is over.
//
// The stages are in process groups of their own, so that a ^C at the terminal reaches only this process.
func (t *Trial) Obey(signals <-chan os.Signal, say func(text string)) {
	asked := false
	for {
		select {
		case <-t.done:
			return
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP, asked:
				say("aborting: only cleanup follows")
				t.Abort()
			case t.Cancel():
				say("canceling as GitLab does; once more aborts")
			default:
				say("the script is over, so the job ends by itself; once more aborts")
			}
			asked = true
		}
	}
}

// DriverArgs are the arguments of one stage as in config.toml. The verb of the driver is put in front unless it is there already, so that
// lists can be copied from a config.toml.
//
// Source: https://docs.gitlab.com/runner/configuration/advanced-configuration/#the-runnerscustom-section
func DriverArgs(verb string, args []string) []string {
	if len(args) > 0 && args[0] == verb {
		return args
	}
	return append([]string{verb}, args...)
}
