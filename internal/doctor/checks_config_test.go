package doctor

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gitlab-runner-tart-driver/internal/host"
)

func TestChecksOfTheConfig(t *testing.T) {
	good := stages("")
	without := func(lines ...string) string {
		text := good
		for _, line := range lines {
			if !strings.Contains(text, line) {
				t.Fatalf("no %q", line)
			}
			text = strings.Replace(text, line, "", 1)
		}
		return text
	}
	with := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	const at = "/Users/ci/.gitlab-runner/config.toml:"
	for _, c := range []struct{ name, id, config, want string }{
		{"all well", "config", good, "pass /Users/ci/.gitlab-runner/config.toml: 1 runner uses this driver |"},
		{"all well", "stages", good, "pass config, prepare, run and cleanup call this driver |"},
		{"all well", "settings", good, "pass all stages understand their arguments |"},
		{"all well", "limits", good, "pass 2 jobs at once, places for 2 VMs |"},
		{"all well", "timeouts", good, "pass long enough"},
		{"all well", "overridden", good, "pass left to the config stage |"},

		{"another executor", "config", with(`executor = "custom"`, `executor = "shell"`), "fail " + at + `3: runner "r" has a [runners.custom] for this driver, but its executor is "shell" | executor = "custom"`},
		{"no token", "config", without(`  token = "t"`), "fail " + at + `3: runner "r" has no url or no token`},
		{"another driver beside", "config", good + "[[runners]]\nexecutor = \"custom\"\n[runners.custom]\nrun_exec = \"gitlab-tart-executor\"\n",
			"warn " + at + "20: a runner without a name uses gitlab-tart-executor | gitlab-runner-tart-driver migrate"},

		{"no config stage", "stages", without("    config_exec = \"/opt/bin/gitlab-runner-tart-driver\"\n"), "fail " + at + `10: runner "r" has no config_exec: GitLab Runner isn't told the directories in the VM, nor the shell | ` +
			`config_exec = "/opt/bin/gitlab-runner-tart-driver" and config_args = ["config"]`},
		{"no config stage but directories", "stages", strings.Replace(without("    config_exec = \"/opt/bin/gitlab-runner-tart-driver\"\n"), "  limit", "  builds_dir = \"/b\"\n  cache_dir = \"/c\"\n  limit", 1),
			"warn " + at + `12: runner "r" has no config_exec`},
		{"no cleanup", "stages", without("    cleanup_exec = \"/opt/bin/gitlab-runner-tart-driver\"\n"), "fail " + at + `10: runner "r" has no cleanup_exec: VMs stay until their deadline`},
		{"not there", "stages", with(`run_exec = "/opt/bin/`, `run_exec = "/nowhere/`), "fail " + at + `15: runner "r": run_exec is /nowhere/gitlab-runner-tart-driver: no such file or directory | run_exec = "/opt/bin/gitlab-runner-tart-driver"`},
		{"a directory", "stages", with(`run_exec = "/opt/bin/gitlab-runner-tart-driver"`, `run_exec = "/opt/dir/gitlab-runner-tart-driver"`), "fail " + at + `15: runner "r": run_exec is /opt/dir/gitlab-runner-tart-driver, which is no file (it is a directory)`},
		{"not executable", "stages", with(`run_exec = "/opt/bin/gitlab-runner-tart-driver"`, `run_exec = "/opt/txt/gitlab-runner-tart-driver"`), "fail " + at + `15: runner "r": run_exec is /opt/txt/gitlab-runner-tart-driver, which is not executable (mode 0600) | chmod +x /opt/txt/gitlab-runner-tart-driver`},
		{"a relative path", "stages", with(`run_exec = "/opt/bin/`, `run_exec = "./`), "fail " + at + `15: runner "r": run_exec is "./gitlab-runner-tart-driver", which is looked for in another directory for every job | write the whole path`},
		{"no path", "stages", with(`run_exec = "/opt/bin/`, `run_exec = "`), "fail " + at + `15: runner "r": run_exec is "gitlab-runner-tart-driver", which is in none of the usual directories`},
		{"a script of one's own", "stages", with(`run_exec = "/opt/bin/gitlab-runner-tart-driver"`, `run_exec = "/opt/bin/mine"`), "warn " + at + `15: runner "r": run_exec is /opt/bin/mine, and other stages call this driver: it must call it, too |`},
		{"a stage of another driver", "stages", with(`run_exec = "/opt/bin/gitlab-runner-tart-driver"`, `run_exec = "/opt/bin/gitlab-tart-executor"`), "fail " + at + `15: runner "r": run_exec calls gitlab-tart-executor, and other stages call this driver | gitlab-runner-tart-driver migrate`},
		{"another stage's verb", "stages", with(`run_args = ["run"]`, `run_args = ["prepare"]`), "fail " + at + `16: runner "r": run_args begin with "prepare"`},
		{"a stray word", "stages", with(`run_args = ["run"]`, `run_args = ["run", "fast"]`), "fail " + at + `16: runner "r": run_args has an argument that is no flag: "fast" | take it out of run_args`},
		{"behind sudo", "stages", strings.ReplaceAll(good, `run_exec = "/opt/bin/gitlab-runner-tart-driver"
    run_args = ["run"]`, `run_exec = "/usr/bin/sudo"
    run_args = ["-u", "ci", "/opt/bin/gitlab-runner-tart-driver", "run"]`), "fail " + at + `15: runner "r": run_exec is /usr/bin/sudo: no such file`},

		{"an unknown flag", "settings", stages(`, "--nonsense"`), "fail " + at + `14: runner "r": prepare: unknown flag: --nonsense | gitlab-runner-tart-driver prepare --help lists what there is`},
		{"a bad value", "settings", stages(`, "--cpu", "many"`), "fail " + at + `14: runner "r": prepare: flag --cpu: "many": expected a whole number`},
		{"a secret's bad value", "settings", stages(`, "--registry-password", "a\u0001b"`), "fail " + at + `14: runner "r": prepare: flag --registry-password: value is not usable`},
		{"no directory to share", "settings", stages(`, "--volume", "~/models:/opt/models"`), "fail " + at + `14: runner "r": --volume: /Users/ci/models: no such file or directory | mkdir -p /Users/ci/models`},
		{"no directory to share by --dir", "settings", stages(`, "--dir", "name:/data:ro"`), "fail " + at + `14: runner "r": --dir: /data: no such file or directory`},
		{"a relative settings file", "settings", stages(`, "--config", "driver.toml"`), "fail " + at + `14: runner "r": prepare: --config driver.toml: the path must be absolute`},
		{"no settings file", "settings", stages(`, "--config", "/etc/no.toml"`), "fail " + at + `14: runner "r": prepare: --config /etc/no.toml: no such file or directory`},
		{"a faulty settings file", "settings", stages(`, "--config", "/etc/driver.toml"`), "fail " + at + `14: runner "r": prepare: config file `},
		{"two state directories", "settings", strings.Replace(stages(`, "--state-dir", "/a"`), `["config"]`, `["config", "--state-dir", "/b"]`, 1), "fail " + at + `10: runner "r": the stages have different state directories: /a (prepare), /b (config)`},

		{"more jobs than places", "limits", with("limit = 2", "limit = 3"), "pass 2 jobs"},
		{"no concurrent", "limits", with("concurrent = 2", "concurrent = 0"), "fail " + at + "2: concurrent is 0: GitLab Runner does not start | concurrent = 2"},
		{"too many jobs", "limits", strings.Replace(with("concurrent = 2", "concurrent = 5"), "limit = 2", "limit = 0", 1), "warn " + at + `8: runner "r" takes up to 5 jobs at once, and there are places for 2 VMs`},
		{"more than Apple allows", "limits", stages(`, "--max-vm-count", "3"`), "warn " + at + `14: runner "r": 3 VMs may run at once (flag --max-vm-count); Apple allows two`},
		{"too small shares", "limits", with("concurrent = 2", "concurrent = 1"), "warn " + at + `14: runner "r": up to 1 VM runs at once, with only the share of one of 2`},
		{"too large shares", "limits", with(`"2"`, `"1"`), "warn " + at + `14: runner "r": up to 2 VMs run at once, and each gets a share of the host as if there were 1`},
		{"one request", "limits", with("request_concurrency = 2", ""), "warn " + at + `3: runner "r" has request_concurrency 1`},
		{"two runners", "limits", strings.Replace(good, "concurrent = 2", "concurrent = 4", 1) + strings.Replace(good, "\nconcurrent = 2", "", 1), "warn " + at + "2: the runners that use this driver take up to 4 jobs together"},

		{"short prepare", "timeouts", good + "    prepare_exec_timeout = 200\n", "warn " + at + `20: runner "r": prepare_exec_timeout is 200 s: the pull of an image takes longer | prepare_exec_timeout = 4500`},
		{"prepare shorter than its wait", "timeouts", stages(`, "--slot-timeout", "7200"`), "warn " + at + `10: runner "r": prepare_exec_timeout is 3600 s: a job may wait for its turn for up to 7200 s (--slot-timeout) | prepare_exec_timeout = 8100`},
		{"short config", "timeouts", good + "    config_exec_timeout = 1\n", "warn " + at + `20: runner "r": config_exec_timeout is 1 s`},
		{"short cleanup", "timeouts", good + "    cleanup_exec_timeout = 30\n", "warn " + at + `20: runner "r": cleanup_exec_timeout is 30 s`},
		{"no time to end", "timeouts", with("graceful_kill_timeout = 60", "graceful_kill_timeout = 5"), "warn " + at + `19: runner "r": graceful_kill_timeout is 5 s: a script`},
		{"too much time to end", "timeouts", with("graceful_kill_timeout = 60", "graceful_kill_timeout = 300"), "warn " + at + `19: runner "r": graceful_kill_timeout is 300 s, and`},
		{"short shutdown", "timeouts", "\nshutdown_timeout = 5" + good, "warn " + at + "2: shutdown_timeout is 5 s"},

		{"builds_dir", "overridden", with("  limit", "  builds_dir = \"/b\"\n  limit"), "warn " + at + `8: runner "r": builds_dir has no effect`},
		{"zsh without config", "overridden", strings.Replace(without("    config_exec = \"/opt/bin/gitlab-runner-tart-driver\"\n"), "  limit", "  shell = \"zsh\"\n  limit", 1), "fail " + at + `8: runner "r": shell is "zsh"`},
		{"a relative cache_dir without config", "overridden", strings.Replace(without("    config_exec = \"/opt/bin/gitlab-runner-tart-driver\"\n"), "  limit", "  cache_dir = \"~/c\"\n  limit", 1), "fail " + at + `8: runner "r": cache_dir is "~/c"`},
	} {
		machine := play(t, configFile(c.config)+"-- opt/bin/mine --\n-- opt/bin/gitlab-tart-executor --\n-- opt/txt/gitlab-runner-tart-driver --\n"+
			"-- opt/dir/gitlab-runner-tart-driver/file --\n-- etc/driver.toml --\ncpus = 1\n")
		if got := look(t, machine, c.id); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: got\n\t%s\nwant\n\t%s", c.name, got, c.want)
		}
	}
}

func TestStateDirectory(t *testing.T) {
	machine := play(t, configFile(stages("")))
	dir := filepath.Join(machine.Root, "Users/ci/.gitlab-runner-tart-driver")
	if got := look(t, machine, "state-dir"); got != "pass the first job makes /Users/ci/.gitlab-runner-tart-driver |" {
		t.Error(got)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("looking has made the directory")
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := look(t, machine, "state-dir"); !strings.HasPrefix(got, "fail /Users/ci/.gitlab-runner-tart-driver is not a directory") {
		t.Error(got)
	}
}

// TestLeftoversSpareTheLiving: a record that somebody holds is none, and one that nobody holds is not taken away by looking.
func TestLeftoversSpareTheLiving(t *testing.T) {
	machine := play(t, configFile(stages(""))+script("tart", `case $1 in --version) echo 2.35.0;; list) echo '[]';; delete) rm -r "$HOME/.tart/vms/$2" 2> /dev/null || { echo "the specified VM \"$2\" does not exist" >&2; exit 2; };; esac`))
	state, err := host.Open(filepath.Join(machine.Root, "Users/ci/.gitlab-runner-tart-driver"))
	if err != nil {
		t.Fatal(err)
	}
	living, dead, lost := state.NewName("1"), state.NewName("2"), state.NewName("3")
	for _, vm := range []string{living, dead, lost, "grtd-aaaaaa-1-bbbbbbbb", "gitlab-5", "grtd-app-1-2-0", "base"} {
		path := filepath.Join(machine.Root, "Users/ci/.tart/vms", vm)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "config.json"), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	held, err := state.Create(host.Record{VM: living, JobID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Release()
	abandoned, err := state.Create(host.Record{VM: dead, JobID: "2", Project: "g/p"})
	if err != nil {
		t.Fatal(err)
	}
	abandoned.Release()
	for range 2 {
		got := look(t, machine, "leftovers")
		for _, want := range []string{
			"warn VM " + dead + " (job 2 of g/p) has a record, and no keeper |", "warn VM " + lost + " has no record |",
			"warn VM grtd-aaaaaa-1-bbbbbbbb was made by way of another state directory", "warn VM gitlab-5 was made by gitlab-tart-executor", "warn VM grtd-app-1-2-0 was made by the Python driver",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
		if strings.Contains(got, living) || strings.Contains(got, "base") || strings.Count(got, "\n") != 4 {
			t.Errorf("too much in\n%s", got)
		}
	}
	report, err := Examine(context.Background(), Options{Host: machine, Executable: "/opt/bin/gitlab-runner-tart-driver", Parse: parseSimply, Mend: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, vm := range []string{living, "base", "gitlab-5"} {
		if _, err := os.Stat(filepath.Join(machine.Root, "Users/ci/.tart/vms", vm)); err != nil {
			t.Errorf("%s: %v", vm, err)
		}
	}
	for _, r := range report.Checks {
		if r.ID == "leftovers" && (strings.Count(r.Mended, dead) != 1 || !strings.Contains(r.Mended, lost) || len(r.Findings) != 3) {
			t.Errorf("%+v", r)
		}
	}
}
