package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/manpage"
)

// newManCommand makes the command that packagers use; people have the pages.
func newManCommand(env Env) *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write the manual pages into a directory", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			date, err := buildDate(env)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return job.Infrastructure(err, "")
			}
			for _, page := range manpage.Pages(cmd.Root(), manpage.Options{Version: version(env), Date: date, Extra: manExtra}) {
				if err := os.WriteFile(filepath.Join(args[0], page.Name), page.Content, 0o644); err != nil {
					return job.Infrastructure(err, "")
				}
			}
			return nil
		},
	}
}

// buildDate is the date that pages bear: that of the environment, so that the same source makes the same pages, or else today.
// https://reproducible-builds.org/specs/source-date-epoch/
func buildDate(env Env) (time.Time, error) {
	const variable = "SOURCE_DATE_EPOCH"
	text := job.Environ(env.Environ).Get(variable)
	if text == "" {
		return time.Now(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, job.Mistake(fmt.Errorf("%s: %q is no number of seconds since 1970", variable, text), "")
	}
	return time.Unix(seconds, 0), nil
}

// manExtra is what a verb's page says beside its help: variables of the environment, and files.
func manExtra(verb string) manpage.Extra {
	home := manpage.Item{Name: "HOME", Text: "Where the state directory is, and GitLab Runner's configuration."}
	path := manpage.Item{Name: "PATH", Text: "Where tart is looked for, and then in /opt/homebrew/bin and /usr/local/bin."}
	tartHome := manpage.Item{Name: "TART_HOME", Text: "Tart's own directory, if it is not ~/.tart."}
	colour := manpage.Item{Name: "NO_COLOR", Text: "Turns colours off, if it is not empty."}
	response := manpage.Item{Name: "JOB_RESPONSE_FILE", Text: "The job as GitLab sent it; from GitLab Runner 14.1 on. What the job is, the driver takes from there."}
	codes := manpage.Item{Name: "BUILD_FAILURE_EXIT_CODE, SYSTEM_FAILURE_EXIT_CODE", Text: "The exit codes that GitLab Runner takes for the job's fault, and for the host's."}
	switch verb {
	case "":
		return manpage.Extra{
			Environment: []manpage.Item{home, path, tartHome, colour},
			Files: []manpage.Item{
				{Name: "~/.gitlab-runner-tart-driver", Text: "The state directory: records of VMs, places, locks, sockets, logs and events."},
				{Name: "~/.gitlab-runner/config.toml", Text: "GitLab Runner's configuration, which says what this program is called with; /etc/gitlab-runner/config.toml for root."},
				{Name: "~/Library/LaunchAgents/gitlab-runner.plist", Text: "Starts GitLab Runner, when its user logs in."},
			},
		}
	case "config", "prepare", "cleanup":
		return manpage.Extra{Environment: []manpage.Item{response, codes, path, tartHome}, JobVariables: true}
	case "run":
		told := manpage.Item{Name: "BUILD_EXIT_CODE_FILE", Text: "Where the script's own exit code is told; from GitLab Runner 17.9 on."}
		return manpage.Extra{Environment: []manpage.Item{response, codes, told}, JobVariables: true}
	case "setup":
		return manpage.Extra{
			Environment: []manpage.Item{
				{Name: "CI_SERVER_URL, CI_SERVER_TOKEN, CI_SERVER_TLS_CA_FILE", Text: "What --url, --token and --tls-ca-file stand for, where they are not given."},
				{Name: "HTTPS_PROXY, HTTP_PROXY, NO_PROXY", Text: "The proxy through which GitLab is asked, and the hosts that need none."},
				home, path, colour,
			},
			Files: []manpage.Item{
				{Name: "~/.gitlab-runner/.runner_system_id", Text: "By what GitLab tells this host from others that have the same runner. GitLab Runner shares it."},
				{Name: "~/.gitlab-runner/certs/HOST.crt", Text: "The authority that vouches for the GitLab at HOST, where config.toml names none."},
				{Name: "~/Library/LaunchAgents/gitlab-runner.plist", Text: "Starts GitLab Runner, when its user logs in."},
			},
		}
	case "doctor":
		return manpage.Extra{Environment: []manpage.Item{home, path, tartHome, colour}, Files: []manpage.Item{
			{Name: "/var/db/dhcpd_leases", Text: "The addresses that macOS has given to VMs."},
		}}
	case "images pull":
		return manpage.Extra{Environment: []manpage.Item{
			{Name: "TART_REGISTRY, TART_REGISTRY_USERNAME, TART_REGISTRY_PASSWORD", Text: "The login at a registry. So given, no other user of the host sees it."},
			{Name: "DOCKER_AUTH_CONFIG", Text: "Logins at registries, as JSON in the form of Docker's config.json."},
			path, tartHome,
		}}
	case "explain":
		return manpage.Extra{Environment: []manpage.Item{home}, Files: []manpage.Item{
			{Name: "$TMPDIR/custom-executor*/response.json", Text: "A job while it runs, for --job-response; TMPDIR is GitLab Runner's."},
		}}
	case "try":
		return manpage.Extra{Environment: []manpage.Item{{Name: "TMPDIR", Text: "Where the files of the job are while it runs."}, home, path, tartHome}}
	case "ps", "logs", "events":
		return manpage.Extra{Environment: []manpage.Item{home, colour}}
	case "hold", "release", "ssh", "cp", "vnc", "migrate":
		return manpage.Extra{Environment: []manpage.Item{home}}
	case "sweep", "images list", "images prune":
		return manpage.Extra{Environment: []manpage.Item{home, path, tartHome}}
	}
	return manpage.Extra{}
}
