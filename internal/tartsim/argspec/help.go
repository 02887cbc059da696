package argspec

import (
	"fmt"
	"strings"
)

// ErrorText renders a usage error as Swift ArgumentParser does: the message, the option's help, and where to look next.
func ErrorText(tool string, cmd *Command, e *UsageError) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Error: %s\n", e.Message)
	if e.Help != "" {
		fmt.Fprintf(&b, "Help:  %s\n", e.Help)
	}
	if e.Bare {
		b.WriteString("\n" + cmd.HelpText(tool))
		return b.String()
	}
	fmt.Fprintf(&b, "Usage: %s\n  See '%s %s --help' for more information.\n", cmd.Synopsis(tool), tool, cmd.Name)
	return b.String()
}

// RootErrorText renders an error that belongs to no subcommand, or one raised after parsing: the root's usage is shown then.
func RootErrorText(tool, message string) string {
	return fmt.Sprintf("Error: %s\nUsage: %s <subcommand>\n  See '%s --help' for more information.\n", message, tool, tool)
}

// HelpText renders a command's help.
func (c *Command) HelpText(tool string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "OVERVIEW: %s\n\nUSAGE: %s\n", c.Abstract, c.Synopsis(tool))
	if len(c.Args) > 0 {
		b.WriteString("\nARGUMENTS:\n")
		for i := range c.Args {
			column(&b, "<"+c.Args[i].Name+">", c.Args[i].Help)
		}
	}
	b.WriteString("\nOPTIONS:\n")
	for i := range c.Options {
		if !c.Options[i].Hidden {
			column(&b, c.Options[i].helpName(), c.Options[i].Help)
		}
	}
	column(&b, "--version", "Show the version.")
	column(&b, "-h, --help", "Show help information.")
	return b.String()
}

func (o *Option) helpName() string {
	name := o.display()
	if o.Long != "" && o.Short != "" {
		name = "-" + o.Short + ", --" + o.Long
	}
	if o.Kind == Inverted {
		name += "/--no-" + o.Long
	}
	if o.takesValue() {
		name += " <" + o.valueName() + ">"
	}
	return name
}

// RootHelpText renders the help of the tool itself.
func RootHelpText(tool string, commands []Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "USAGE: %s <subcommand>\n\nOPTIONS:\n", tool)
	column(&b, "--version", "Show the version.")
	column(&b, "-h, --help", "Show help information.")
	b.WriteString("\nSUBCOMMANDS:\n")
	for i := range commands {
		if !commands[i].Hidden {
			column(&b, commands[i].Name, commands[i].Abstract)
		}
	}
	fmt.Fprintf(&b, "\n  See '%s help <subcommand>' for detailed help.\n", tool)
	return b.String()
}

// helpColumn is where the explanations start.
const helpColumn = 26

func column(b *strings.Builder, name, help string) {
	name = "  " + name
	if len(name) >= helpColumn {
		fmt.Fprintf(b, "%s\n%*s%s\n", name, helpColumn, "", help)
		return
	}
	fmt.Fprintf(b, "%-*s%s\n", helpColumn, name, help)
}
