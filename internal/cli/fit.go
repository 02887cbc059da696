package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gitlab-runner-tart-driver/internal/job"
)

// terminalWidth is how many characters a line of a terminal has, or 0 where the output goes elsewhere: there nothing is fitted.
func terminalWidth(w io.Writer) int {
	if !isTerminal(w) {
		return 0
	}
	columns, _, err := term.GetSize(int(w.(*os.File).Fd()))
	if err != nil {
		return 0
	}
	return max(columns, 0)
}

// column is one of a table that is to fit a terminal.
type column struct {
	title string
	// least is how many characters of its longest text must be shown; 0 for all. The end of a name says more than its beginning.
	least int
	// rank says which columns are left out where there is no room: that with the highest first, and those with 0 never.
	rank int
}

// columnGap is the space between two columns, in characters.
const columnGap = 2

// writeFitted writes a table that fits the terminal, if that is possible.
func (p painter) writeFitted(w io.Writer, columns []column, rows [][]cell) error {
	if p.width > 0 {
		columns, rows = fit(columns, rows, p.width)
	}
	header := make([]string, len(columns))
	for i, c := range columns {
		header[i] = c.title
	}
	return p.writeTable(w, header, rows)
}

// fit leaves out columns until the others can have their least width, and then shortens texts as far as it must.
func fit(columns []column, rows [][]cell, width int) ([]column, [][]cell) {
	columns, rows = slices.Clone(columns), slices.Clone(rows)
	for i := range rows {
		rows[i] = slices.Clone(rows[i])
	}
	full := func() (widths []int) {
		for i, c := range columns {
			longest := utf8.RuneCountInString(c.title)
			for _, row := range rows {
				longest = max(longest, utf8.RuneCountInString(row[i].text))
			}
			widths = append(widths, longest)
		}
		return widths
	}
	for {
		widths := full()
		excess := columnGap*(len(columns)-1) - width
		spare, last := 0, -1
		for i, c := range columns {
			excess += widths[i]
			if c.least > 0 {
				spare += max(0, widths[i]-c.least)
			}
			if c.rank > 0 && (last < 0 || c.rank > columns[last].rank) {
				last = i
			}
		}
		if excess > spare && last >= 0 {
			columns = slices.Delete(columns, last, last+1)
			for i := range rows {
				rows[i] = slices.Delete(rows[i], last, last+1)
			}
			continue
		}
		for i, c := range columns {
			if c.least == 0 || excess <= 0 {
				continue
			}
			shorter := max(min(widths[i], c.least), widths[i]-excess)
			excess -= widths[i] - shorter
			for _, row := range rows {
				row[i].text = endOf(row[i].text, shorter)
			}
		}
		return columns, rows
	}
}

// endOf is a text's end, in at most width characters.
func endOf(text string, width int) string {
	characters := []rune(job.Printable(text))
	if len(characters) <= width {
		return text
	}
	return "…" + string(characters[len(characters)-width+1:])
}

// wrap breaks a text into lines of at most width characters, where it has spaces. All but the first begin with an indent, whose room the first has, too.
func wrap(text string, width, indent int) string {
	const narrowest = 20
	room := width - indent
	if width == 0 || room < narrowest {
		return text
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > room {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return strings.Join(append(lines, line), "\n"+strings.Repeat(" ", indent))
}

// wrapHelp makes the help of all commands fit the terminal that it is for.
func wrapHelp(root *cobra.Command, width int) {
	if width == 0 {
		return
	}
	root.SetUsageTemplate(strings.NewReplacer(".FlagUsages ", fmt.Sprintf(".FlagUsagesWrapped %d ", width), " for more information about a command", " tells more").
		Replace(root.UsageTemplate()))
	var all func(*cobra.Command)
	all = func(cmd *cobra.Command) {
		cmd.Long = wrapParagraphs(cmd.Long, width)
		for _, sub := range cmd.Commands() {
			all(sub)
		}
	}
	all(root)
}

// wrapParagraphs wraps a text of paragraphs. Lines that are indented stay lines of their own: those of tables, whose last column is wrapped, and examples,
// which people copy.
func wrapParagraphs(text string, width int) string {
	var out, paragraph []string
	end := func() {
		if len(paragraph) > 0 {
			out, paragraph = append(out, wrap(strings.Join(paragraph, " "), width, 0)), nil
		}
	}
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case line == "":
			end()
			out = append(out, "")
		case strings.HasPrefix(line, " "):
			end()
			if i := strings.LastIndex(line, "  ") + columnGap; i > len(line)-len(strings.TrimLeft(line, " ")) { // a table's second column
				line = line[:i] + wrap(line[i:], width, i)
			}
			out = append(out, line)
		default:
			paragraph = append(paragraph, line)
		}
	}
	end()
	return strings.Join(out, "\n")
}
