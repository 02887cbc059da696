// Command bench measures the driver, called as GitLab Runner calls it, over the stand-in for tart: what a job costs beyond the VM itself. It
// compares with what does the same without a driver (ssh, tart by hand, an empty program), and on request with another driver.
//
// It judges nothing: a missed target is a word in the table and no failure. It must not reach into the driver, which is a program to it like
// any other; what it looks at from outside is written in docs/performance.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"gitlab-runner-tart-driver/bench/report"
)

// options are the command line.
type options struct {
	runs        int
	quick       bool
	only        string
	json, table string
	jobs        int
	leftovers   int
	peer        peerOptions
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.runs, "runs", 0, "`NUMBER` of jobs for each figure about whole jobs, the base of all other repetitions (default 10, or 2 with -quick)")
	f.BoolVar(&o.quick, "quick", false, "few repetitions, to see whether it works")
	f.StringVar(&o.only, "only", "", "`NAMES` of the sections to run, with commas between: "+strings.Join(sectionNames(), ", "))
	f.StringVar(&o.json, "json", "bin/bench.json", "`FILE` for all samples; empty for none")
	f.StringVar(&o.table, "table", "", "`FILE` for the table, which is printed in any case")
	f.IntVar(&o.jobs, "jobs", 50, "`NUMBER` of jobs at once in section many")
	f.IntVar(&o.leftovers, "leftovers", 10000, "`NUMBER` of finished jobs in section leftovers")
	o.peer.addFlags(f)
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.runs == 0 {
		o.runs = 10
		if o.quick {
			o.runs = 2
		}
	}
	if o.runs < 1 || o.jobs < 1 || o.leftovers < 0 {
		return o, fmt.Errorf("-runs %d, -jobs %d, -leftovers %d: there is nothing to measure", o.runs, o.jobs, o.leftovers)
	}
	for name := range strings.SplitSeq(o.only, ",") {
		if name != "" && !slices.Contains(sectionNames(), name) {
			return o, fmt.Errorf("-only %q: no such section", name)
		}
	}
	return o, nil
}

func (o *options) wants(section string) bool {
	return o.only == "" || slices.Contains(strings.Split(o.only, ","), section)
}

// repeat is how often something is measured that takes only a fraction of a job's time.
func (o *options) repeat(factor int) int { return o.runs * factor }

func main() {
	// The first signal lets everything end that was started; the next one ends the benchmark itself.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == oneJobVerb {
		return oneJob(ctx, args[1])
	}
	opts, err := parse(args, os.Stderr)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, opts)
	if err == nil {
		err = errors.Join(b.measure(ctx), b.host.close())
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if b != nil {
		err = errors.Join(err, b.write())
	}
	return err
}

// write prints the table, and saves it and all samples.
func (b *bench) write() error {
	table := b.report.Table()
	fmt.Print(table)
	if b.opts.table != "" {
		if err := os.WriteFile(b.opts.table, []byte(table), 0o644); err != nil {
			return err
		}
	}
	if b.opts.json == "" {
		return nil
	}
	raw, err := b.report.JSON()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(b.opts.json), 0o755); err != nil {
		return err
	}
	return os.WriteFile(b.opts.json, append(raw, '\n'), 0o644)
}

// bench is one run of the benchmark.
type bench struct {
	opts options
	host *host
	// drivers are what is measured, this project's first.
	drivers []*driver
	report  *report.Report
}

func newBench(ctx context.Context, opts options) (*bench, error) {
	h, err := newHost(ctx)
	if err != nil {
		return nil, err
	}
	b := &bench{opts: opts, host: h, drivers: []*driver{h.ownDriver()}, report: &report.Report{Began: time.Now(), Runs: opts.runs}}
	peer, err := opts.peer.driver()
	if err == nil && peer != nil {
		b.drivers = append(b.drivers, peer)
		b.report.Peer = peer.name
	}
	if err == nil {
		b.report.Guests, err = h.guests()
	}
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return b, nil
}

// measure runs the sections. One that fails keeps none of the others from being measured.
func (b *bench) measure(ctx context.Context) error {
	b.report.Machine = machine(ctx)
	var failed error
	for _, s := range sections() {
		if !b.opts.wants(s.name) || ctx.Err() != nil {
			continue
		}
		began := time.Now()
		fmt.Fprintf(os.Stderr, "%-10s %s ... ", s.name, s.about)
		err := s.run(b, ctx)
		fmt.Fprintf(os.Stderr, "%.1f s\n", time.Since(began).Seconds())
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("section %s: %w", s.name, err))
		}
	}
	b.report.Machine.LoadAfter = load()
	b.report.Took = time.Since(b.report.Began)
	return failed
}

// own is this project's driver.
func (b *bench) own() *driver { return b.drivers[0] }

// figure adds a row to the report.
func (b *bench) figure(section, name string, unit report.Unit, yardstick string, targets ...report.Limit) *report.Figure {
	return b.report.Figure(report.Figure{Section: section, Name: name, Unit: unit, Yardstick: yardstick, Targets: targets})
}
