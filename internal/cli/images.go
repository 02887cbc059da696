package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gitlab-runner-tart-driver/internal/host"
	"gitlab-runner-tart-driver/internal/image"
	"gitlab-runner-tart-driver/internal/job"
	"gitlab-runner-tart-driver/internal/lifecycle"
	"gitlab-runner-tart-driver/internal/settings"
	"gitlab-runner-tart-driver/internal/tart"
)

const imagesLong = `Looks after the images of registries that are kept on this host, with the state directory that the jobs have.

Flags and the config file are those of the stages; what means nothing here is taken and has no effect. Registry logins come from the
environment: TART_REGISTRY, TART_REGISTRY_USERNAME and TART_REGISTRY_PASSWORD, or DOCKER_AUTH_CONFIG.`

const imagesPullLong = `Brings images up to date, so that jobs need not wait for them: for a job of launchd that runs every night. Images beyond --image-budget are
removed afterwards, those used least recently first, and never one that a job uses or waits for.

Exit codes
  0    all images are up to date
  1    an image, a login or a setting is to blame
  2    the host, the network or Tart is to blame
  64   the command line is not understood`

func newImagesCommand(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "images", Short: "Pull, list and remove the images on this host", Long: imagesLong, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newImagesPullCommand(env), newImagesListCommand(env), newImagesPruneCommand(env))
	return cmd
}

// imagesFlags are the flags of the settings table that mean something to all verbs of images.
var imagesFlags = []string{"tart-executable", "state-dir"}

// newImagesVerb makes a verb of images. shown are the settings that it uses.
func newImagesVerb(env Env, use, short, long string, args cobra.PositionalArgs, shown []string,
	run func(ctx context.Context, args []string, im *lifecycle.Images) error,
) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: func(cmd *cobra.Command, given []string) error {
		if err := args(cmd, given); err != nil {
			return &usageError{err}
		}
		return nil
	}}
	given := addFlags(cmd.Flags(), cmd.Name())
	cmd.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = true })
	for _, name := range append(shown, imagesFlags...) {
		cmd.Flags().Lookup(name).Hidden = false
	}
	file := cmd.Flags().String(configFlag, "", "`FILE` in TOML with settings, by the names of their flags")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		im, err := newImages(env, given, *file)
		if err != nil {
			return err
		}
		return run(cmd.Context(), args, im)
	}
	return cmd
}

// newImages puts together what the verbs work with. There is no job: all settings are the operator's.
func newImages(env Env, given map[string]string, file string) (*lifecycle.Images, error) {
	environ := job.Environ(env.Environ)
	defaults := map[string]string{"state-dir": defaultStateDir(environ)}
	maps.Copy(defaults, registryLogin(environ))
	var values map[string]string
	if file != "" {
		var err error
		if values, err = settings.ReadFile(file); err != nil {
			return nil, job.Mistake(err, "a config file has the flags' names as keys, such as concurrency = 2")
		}
	}
	s, errs := settings.Resolve(settings.Sources{File: values, FilePath: file, Flags: given, Defaults: defaults})
	if len(errs) > 0 {
		return nil, job.Mistake(errors.Join(errs...), "`gitlab-runner-tart-driver images --help` lists verbs and flags")
	}
	state, err := host.Open(s.StateDir)
	if err != nil {
		return nil, job.Infrastructure(err, "choose another with --state-dir, the same as the stages have")
	}
	client, err := tart.New(s.TartExecutable, env.Environ)
	if err != nil {
		return nil, job.Infrastructure(fmt.Errorf("%w (%s)", err, s.Origin("tart-executable")),
			"install Tart with `brew install openai/tools/tart`, or say where it is with -x")
	}
	return &lifecycle.Images{Settings: s, State: state, Tart: client}, nil
}

// registryLogin are the settings of a registry login that the environment has, by the names of their variables.
func registryLogin(environ job.Environ) map[string]string {
	given := map[string]string{}
	for _, row := range settings.Table() {
		if !slices.Contains([]string{"registry", "registry-username", "registry-password"}, row.Name) {
			continue
		}
		for _, variable := range slices.Backward(row.Variables) { // the first that is set counts, as in a job
			if value := environ.Get(variable); value != "" {
				given[row.Name] = value
			}
		}
	}
	return given
}

func newImagesPullCommand(env Env) *cobra.Command {
	return newImagesVerb(env, "pull IMAGE...", "Bring images up to date", imagesPullLong, cobra.MinimumNArgs(1),
		[]string{"registry", "registry-username", "registry-password", "insecure-pull", "pull-concurrency", "auto-prune", "image-budget", "disk-reserve"},
		func(ctx context.Context, names []string, im *lifecycle.Images) error {
			return pullImages(ctx, env, names, im)
		})
}

// pullImages pulls one image after the other. One that fails doesn't keep the others from being pulled.
func pullImages(ctx context.Context, env Env, names []string, im *lifecycle.Images) error {
	refs := make([]image.Reference, len(names))
	for i, name := range names {
		ref, err := image.Parse(name)
		if err == nil && ref.Local() {
			err = fmt.Errorf("image %q: a VM of this host cannot be pulled", name)
		}
		if err != nil {
			return job.Mistake(err, "write a registry's image as HOST/PATH:TAG")
		}
		refs[i] = ref
	}
	environ := job.Environ(env.Environ)
	logins := image.Logins{Settings: im.Settings, Operator: true, Helpers: &image.Helpers{Environ: env.Environ}, Job: &job.Job{Variables: map[string]string{
		"DOCKER_AUTH_CONFIG": environ.Get("DOCKER_AUTH_CONFIG"),
		"CI_REGISTRY":        environ.Get("CI_REGISTRY"), "CI_REGISTRY_USER": environ.Get("CI_REGISTRY_USER"), "CI_REGISTRY_PASSWORD": environ.Get("CI_REGISTRY_PASSWORD"),
	}}}
	out := newPullOutput(env.Stdout)
	var errs []error
	for _, ref := range refs {
		began := time.Now()
		done, hold, err := im.Pull(ctx, ref, logins, out.line, out.bar())
		if ctx.Err() != nil {
			return job.Infrastructure(context.Cause(ctx), "")
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defer hold.Release() // none of them makes room for another
		out.line("image %s: %s, in %s", ref.Name, done, job.Took(time.Since(began)))
	}
	if budget := im.Settings.ImageBudgetGB; budget > 0 {
		pruned, err := im.Prune(ctx, budget, false)
		reportPruned(out.line, pruned, budget, "removed")
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func newImagesPruneCommand(env Env) *cobra.Command {
	var budget int
	var dryRun bool
	cmd := newImagesVerb(env, "prune --budget GB", "Remove the images used least recently", "", cobra.NoArgs, nil,
		func(ctx context.Context, _ []string, im *lifecycle.Images) error {
			if budget < 0 {
				budget = im.Settings.ImageBudgetGB
				if budget == 0 {
					return &usageError{errors.New("--budget is missing, and --image-budget is not set: how much may images take?")}
				}
			}
			pruned, err := im.Prune(ctx, budget, dryRun)
			verb := "removed"
			if dryRun {
				verb = "would remove"
			}
			reportPruned(job.NewLog(env.Stdout, time.Now).Linef, pruned, budget, verb)
			return err
		})
	cmd.Long = "Removes cached images, least recently used first, until the rest takes no more than --budget. Images that a job uses or waits for stay, and\n" +
		"local VMs are never removed."
	cmd.Flags().IntVar(&budget, "budget", -1, "disk space in `GB` that images may take (default: that of --image-budget)")
	cmd.Flags().Lookup("budget").DefValue = "0" // which help does not show
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be removed")
	return cmd
}

func reportPruned(line func(string, ...any), pruned lifecycle.Pruned, budget int, verb string) {
	for _, c := range pruned.Removed {
		line("%s image %s, %g GB, last used %s", verb, c.Name(), c.SizeGB, lastUsed(c.Used))
	}
	left := ""
	if pruned.LeftGB > float64(budget) {
		left = "; what is left is in use"
	}
	line("images take %g GB of %d GB%s", pruned.LeftGB, budget, left)
}

func lastUsed(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return at.Local().Format("2006-01-02 15:04")
}

func newImagesListCommand(env Env) *cobra.Command {
	var asJSON bool
	cmd := newImagesVerb(env, "list", "List the images on this host, and who uses them", "", cobra.NoArgs, nil,
		func(ctx context.Context, _ []string, im *lifecycle.Images) error {
			infos, err := im.Info(ctx)
			if err != nil {
				return err
			}
			if asJSON {
				return writeImagesJSON(env.Stdout, infos)
			}
			return newPainter(env).writeImages(env.Stdout, infos)
		})
	cmd.Long = "Lists the images of registries that are kept on this host, those used most recently first."
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON: an array of objects with reference, digest, size_gb, last_used, waiting and jobs")
	return cmd
}

// imageRow is an image as `images list --json` shows it.
type imageRow struct {
	Reference string     `json:"reference"`
	Digest    string     `json:"digest,omitempty"`
	SizeGB    float64    `json:"size_gb"`
	LastUsed  *time.Time `json:"last_used"`
	// Waiting says that a job is about to clone it, or that it is being pulled.
	Waiting bool       `json:"waiting"`
	Jobs    []imageJob `json:"jobs"`
}

type imageJob struct {
	ID      string `json:"id"`
	Project string `json:"project,omitempty"`
	VM      string `json:"vm"`
}

// references are the names of an image that people use: its tags, or its digest where it has none.
func references(info lifecycle.ImageInfo) []string {
	if len(info.Tags) > 0 {
		return info.Tags
	}
	return []string{info.Digest}
}

func writeImagesJSON(w io.Writer, infos []lifecycle.ImageInfo) error {
	rows := []imageRow{}
	for _, info := range infos {
		for _, name := range references(info) {
			row := imageRow{Reference: name, Digest: info.DigestHex(), SizeGB: info.SizeGB, Waiting: info.Held, Jobs: []imageJob{}}
			if !info.Used.IsZero() {
				used := info.Used.UTC()
				row.LastUsed = &used
			}
			for _, r := range info.Jobs {
				row.Jobs = append(row.Jobs, imageJob{ID: r.JobID, Project: r.Project, VM: r.VM})
			}
			rows = append(rows, row)
		}
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(rows)
}

// writeImages writes images for people.
func (p painter) writeImages(w io.Writer, infos []lifecycle.ImageInfo) error {
	var rows [][]cell
	for _, info := range infos {
		var users []string
		for _, r := range info.Jobs {
			users = append(users, r.Describe())
		}
		if info.Held {
			users = append(users, "a job that is starting, or a pull")
		}
		for _, name := range references(info) {
			rows = append(rows, plain(name, shortDigest(info.DigestHex()), fmt.Sprintf("%g GB", info.SizeGB), lastUsed(info.Used), strings.Join(users, ", ")))
		}
	}
	return p.writeFitted(w, []column{{"REFERENCE", 24, 0}, {"DIGEST", 0, 1}, {"SIZE", 0, 0}, {"LAST USED", 0, 0}, {"USED BY", 24, 0}}, rows)
}

// shortDigest is the part of a digest that people compare.
func shortDigest(digest string) string {
	const hexDigits = 12
	hex := strings.TrimPrefix(digest, "sha256:")
	return hex[:min(len(hex), hexDigits)]
}
