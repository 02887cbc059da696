package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/settings"
)

func newSettingsCommand(env Env) *cobra.Command {
	return &cobra.Command{
		Use: "settings", Short: "Print the reference of all settings, in Markdown", Args: cobra.NoArgs,
		Long: "Prints every setting with its flag, the variables by which a job sets it, its default, and what it is for.",
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(env.Stdout, settings.Reference())
			return err
		},
	}
}
