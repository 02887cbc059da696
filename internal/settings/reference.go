package settings

import (
	"fmt"
	"strings"
)

// Reference is the reference of all settings, in Markdown. docs/settings.md is this text.
func Reference() string {
	var b strings.Builder
	b.WriteString(`# Settings

Made from the driver's own table by ` + "`gitlab-runner-tart-driver settings`" + `; don't edit.

A setting's value comes from the first of these that has one: the job's variable, the flag, the config file (` + "`--config FILE`" + `, TOML, with
the flags' names as keys), the default. Every flag is taken by every stage. A switch is turned off with ` + "`--no-NAME`" + ` or ` + "`--NAME=false`" + `. Lists
are flags given several times, and arrays in the config file. An empty variable counts as not set.

What a job may set, the operator decides: ` + "`--lock NAME`" + ` keeps a setting from jobs, ` + "`--unlock NAME`" + ` opens one that is closed by default, and
some have a bound of their own. A job that asks for more fails at once, with what is allowed. Settings without a variable are the operator's alone.

| flag | variables | default | |
|---|---|---|---|
`)
	for _, row := range Table() {
		name := "`--" + row.Name
		if row.Short != "" {
			name = "`-" + row.Short + "`, " + name
		}
		if row.Takes != "" {
			name += " " + row.Takes
		}
		name += "`"
		if row.List {
			name += " …"
		}
		var variables []string
		for _, v := range row.Variables {
			variables = append(variables, "`"+v+"`")
		}
		list := strings.Join(variables, " ")
		if row.Closed {
			list += " (closed)"
		}
		fallback := ""
		if row.Default != "" {
			fallback = "`" + row.Default + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", strings.ReplaceAll(name, "|", "\\|"), list, fallback, strings.ReplaceAll(row.Help, "|", "\\|"))
	}
	return b.String()
}
