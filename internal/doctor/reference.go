package doctor

import (
	"fmt"
	"strings"
)

// Reference is the reference of all checks, in Markdown. docs/doctor.md is this text.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# doctor

Made from the driver's own table of checks by ` + "`gitlab-runner-tart-driver doctor --checks`" + `; don't edit.

` + "`gitlab-runner-tart-driver doctor`" + ` looks at the Mac, at GitLab Runner's config.toml and at this driver's own files, and says for everything that is
amiss what it is and what mends it. Run it as the user that GitLab Runner runs as, at best in that user's session. It asks neither GitLab nor
a registry, and it changes nothing, unless ` + "`--fix`" + ` is given: then it makes those repairs that can't hurt a running job, lose a file or need another
user's rights.

| flag | |
|---|---|
| ` + "`-c`, `--runner-config PATH`" + ` | GitLab Runner's config.toml, if it is not at its usual place |
| ` + "`--fix`" + ` | make safe repairs |
| ` + "`--json`" + ` | write JSON: an object with status, counts, and checks, each with id, title, status, findings (status, reason, fix) and mended |

| exit code | |
|---|---|
| 0 | no check failed; there may be warnings |
| 1 | a check failed: jobs will fail |
| 2 | the checks could not be made |
| 64 | the command line is not understood |

*pass* means that all is well; *warn* that jobs run, but not as they should or not for long, or that it can't be told for sure; *fail* that jobs fail;
*skip* that there is nothing to check, or not here.

## Checks

| id | what is looked at | why | with --fix |
|---|---|---|---|
`)
	for _, check := range Table() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", check.ID, check.Title, check.Why, check.Mends)
	}
	b.WriteString(`
## What only a Mac can show

The checks were made from documentation and from recorded output, and are tested with files in the forms of macOS; none has seen a Mac yet. To be
looked at there first: whether ` + "`security show-keychain-info`" + ` on a locked keychain asks for a password on the screen (it is given ten seconds), what
` + "`defaults`" + ` shows an ordinary user of the Local Network lists (sudo writes them into root's preferences, so a warning may stand on a Mac where all is
well), ` + "`sysctl hw.optional.arm64`" + ` on an Intel Mac, and the files that ` + "`gitlab-runner install`" + ` and Homebrew write for launchd.

For tests, and to look at another machine's files: ` + "`--root DIR`" + ` (hidden from help) reads all files below DIR and runs programs from DIR/bin alone. DIR is
taken for a Mac where DIR/bin has sw_vers, and the user for an ordinary one.
`)
	return b.String()
}
