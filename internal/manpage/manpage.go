// Package manpage writes manual pages from the commands of the command line and the table of settings, one page a command.
//
// It knows how a page is built, and nothing of what the commands do. The text is theirs: what --help says, with the exit codes in a section of
// their own.
package manpage

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gitlab-runner-tart-driver/internal/settings"
)

// Section is the part of the manual that the pages belong to: programs that users run.
const Section = "1"

// Item is a name and what there is to say of it.
type Item struct{ Name, Text string }

// Extra is what a page says beside what the command itself tells.
type Extra struct {
	// Environment and Files are what the command looks at.
	Environment, Files []Item
	// JobVariables says that a job's variables are looked at, too.
	JobVariables bool
}

// Options of Pages.
type Options struct {
	// Version is the program's, and Date that of the pages; only the day is shown.
	Version string
	Date    time.Time
	// Extra is asked for the words behind the program's name, such as "images pull"; empty for the program itself.
	Extra func(verb string) Extra
}

// Page is one manual page.
type Page struct {
	// Name is that of its file.
	Name    string
	Content []byte
}

// Pages are the pages of a program and of every command of its help, in the order of that.
func Pages(root *cobra.Command, opt Options) []Page {
	root.InitDefaultHelpFlag()
	root.InitDefaultVersionFlag()
	root.InitDefaultCompletionCmd()
	pages := []Page{{fileName(root), newPage(root, opt)}}
	for _, cmd := range commands(root) {
		pages = append(pages, Page{fileName(cmd), newPage(cmd, opt)})
	}
	return pages
}

// commands are those below a command that its help shows, with those below them.
func commands(parent *cobra.Command) []*cobra.Command {
	var all []*cobra.Command
	for _, cmd := range parent.Commands() {
		if cmd.IsAvailableCommand() && cmd.Name() != "help" {
			all = append(append(all, cmd), commands(cmd)...)
		}
	}
	return all
}

func title(cmd *cobra.Command) string    { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }
func fileName(cmd *cobra.Command) string { return title(cmd) + "." + Section }

func newPage(cmd *cobra.Command, opt Options) []byte {
	cmd.InitDefaultHelpFlag()
	root := cmd.Root()
	verb := strings.TrimPrefix(strings.TrimPrefix(cmd.CommandPath(), root.Name()), " ")
	extra := opt.Extra(verb)
	text, exits := split(cmd.Long)
	if exits == nil {
		_, exits = split(root.Long)
	}
	p := &page{}
	p.macro("TH", strings.ToUpper(title(cmd)), Section, opt.Date.UTC().Format(time.DateOnly), quote(root.Name()+" "+opt.Version), quote("User Commands"))
	p.macro("nh")      // names with hyphens stay whole,
	p.macro("ad", "l") // and lines without them need not be stretched
	p.macro("SH", "NAME")
	p.line(escape(title(cmd)) + ` \- ` + escape(lowerFirst(cmd.Short)))
	p.macro("SH", "SYNOPSIS")
	p.synopsis(cmd)
	p.macro("SH", "DESCRIPTION")
	if len(text) == 0 {
		text = []string{strings.TrimSuffix(cmd.Short, ".") + "."}
	}
	p.blocks(text)
	p.commands(cmd)
	p.options(cmd)
	p.macro("SH", "EXIT STATUS")
	p.blocks(exits)
	p.environment(cmd, extra)
	p.items("FILES", append(files(cmd), extra.Files...))
	p.seeAlso(cmd)
	return []byte(p.String())
}

func (p *page) synopsis(cmd *cobra.Command) {
	p.wrapped(bold(cmd.CommandPath()) + escape(strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath())))
	if cmd.HasAvailableSubCommands() {
		p.macro("br")
		p.line(bold(cmd.CommandPath()) + " " + italic("command"))
	}
}

// split takes the text of a command's help apart: what it says, and its exit codes, as lines.
func split(long string) (text, exits []string) {
	lines := strings.Split(strings.TrimSpace(long), "\n")
	if i := slices.Index(lines, "Exit codes"); i >= 0 {
		return lines[:i], lines[i+1:]
	}
	if long == "" {
		return nil, nil
	}
	return lines, nil
}

// blocks writes the text of a help: paragraphs, and behind a space those lines that stay as they are, or are a name and, behind two spaces, what it
// means.
func (p *page) blocks(lines []string) {
	for len(lines) > 0 {
		kind := kindOf(lines[0])
		n := 1
		for n < len(lines) && kindOf(lines[n]) == kind {
			n++
		}
		switch kind {
		case heading:
			p.macro("SS", strings.Trim(lines[0], "#: "))
		case entries:
			for _, line := range lines[:n] {
				name, meaning, _ := strings.Cut(strings.TrimSpace(line), "  ")
				p.item(bold(name), meaning)
			}
		case fixed:
			p.verbatim(lines[:n])
		case paragraph:
			p.macro("PP")
			p.text(strings.Join(lines[:n], " "))
		}
		lines = lines[n:]
	}
}

type kind int

const (
	gap kind = iota
	heading
	entries
	fixed
	paragraph
)

func kindOf(line string) kind {
	trimmed := strings.TrimSpace(line)
	switch {
	case trimmed == "":
		return gap
	case strings.HasPrefix(line, "#"):
		return heading
	case unicode.IsSpace(rune(line[0])) && strings.Contains(trimmed, "  "):
		return entries
	case unicode.IsSpace(rune(line[0])):
		return fixed
	}
	return paragraph
}

func (p *page) commands(cmd *cobra.Command) {
	var items []Item
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			items = append(items, Item{sub.Name(), strings.TrimSuffix(sub.Short, ".") + ". See `" + title(sub) + "`(" + Section + ")."})
		}
	}
	p.items("COMMANDS", items)
}

// options writes the flags that the command's help shows.
func (p *page) options(cmd *cobra.Command) {
	rows := map[string]settings.Setting{}
	for _, row := range settings.Table() {
		rows[row.Name] = row
	}
	p.macro("SH", "OPTIONS")
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		takes, usage := pflag.UnquoteUsage(f)
		term := bold("--" + f.Name)
		if f.Shorthand != "" {
			term = bold("-"+f.Shorthand) + ", " + term
		}
		row, isSetting := rows[f.Name]
		if isSetting = isSetting && strings.HasPrefix(f.Usage, row.Help); isSetting {
			takes, usage = row.Takes, row.Help
		}
		if takes != "" {
			term += " " + italic(takes)
		}
		texts := []string{strings.TrimSuffix(upperFirst(usage), ".") + "."}
		if hasDefault(f) && !strings.Contains(usage, "(default") {
			texts = append(texts, "Default: "+f.DefValue+".")
		}
		if isSetting && row.List {
			texts = append(texts, "Can be repeated.")
		}
		p.item(term, texts...)
	})
}

// hasDefault tells whether a flag that is not given stands for something.
func hasDefault(f *pflag.Flag) bool {
	return !slices.Contains([]string{"", "false", "0", "0s", "[]"}, f.DefValue)
}

func (p *page) environment(cmd *cobra.Command, extra Extra) {
	items := extra.Environment
	if !extra.JobVariables {
		p.items("ENVIRONMENT", items)
		return
	}
	p.macro("SH", "ENVIRONMENT")
	for _, item := range items {
		p.item(bold(item.Name), item.Text)
	}
	p.macro("PP")
	p.text("Of a job's variables, which GitLab Runner hands on with CUSTOM_ENV_ in front, these set what a flag sets, and come before the flag. " +
		"An empty one counts as not set.")
	for _, row := range settings.Table() {
		if f := cmd.Flags().Lookup(row.Name); f == nil || f.Hidden || len(row.Variables) == 0 {
			continue
		}
		var names []string
		for _, v := range row.Variables {
			names = append(names, bold(v))
		}
		text := "Sets --" + row.Name
		if row.Closed {
			text += ", where --unlock " + row.Name + " opens that to jobs"
		}
		p.item(strings.Join(names, ", "), text+".")
	}
}

// items writes a section, if there is something in it.
func (p *page) items(section string, items []Item) {
	if len(items) == 0 {
		return
	}
	p.macro("SH", section)
	for _, item := range items {
		p.item(bold(item.Name), item.Text)
	}
}

// files are those that a command's flags tell of.
func files(cmd *cobra.Command) []Item {
	var items []Item
	shown := func(name string) bool { f := cmd.Flags().Lookup(name); return f != nil && !f.Hidden }
	if shown("state-dir") {
		items = append(items, Item{"~/.gitlab-runner-tart-driver", "The state directory: records of VMs, places, locks, sockets, logs and events. It can be another, by --state-dir."})
	}
	if shown("runner-config") {
		items = append(items, Item{"~/.gitlab-runner/config.toml", "GitLab Runner's configuration; /etc/gitlab-runner/config.toml for root."})
	}
	return items
}

// seeAlso names the program's page, and on that one those of all verbs.
func (p *page) seeAlso(cmd *cobra.Command) {
	also := []*cobra.Command{}
	if parent := cmd.Parent(); parent != nil {
		also = append(also, cmd.Root())
		if parent != cmd.Root() {
			also = append(also, parent)
		}
	}
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			also = append(also, sub)
		}
	}
	slices.SortFunc(also, func(a, b *cobra.Command) int { return cmp.Compare(title(a), title(b)) })
	p.macro("SH", "SEE ALSO")
	for i, c := range also {
		comma := ","
		if i == len(also)-1 {
			comma = ""
		}
		p.line(bold(title(c)) + "(" + Section + ")" + comma)
	}
}

func quote(s string) string { return `"` + strings.ReplaceAll(escape(s), `"`, `\(dq`) + `"` }

func lowerFirst(s string) string { return strings.ToLower(s[:min(1, len(s))]) + s[min(1, len(s)):] }
func upperFirst(s string) string { return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):] }
