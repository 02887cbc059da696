package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func (t *tool) installCommand() *cobra.Command {
	return &cobra.Command{
		Use: "install DIR", Short: "Put an executable named tart into a directory", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("install: %w", err)
			}
			path := filepath.Join(args[0], "tart")
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("install: %w", err)
			}
			if err := os.Symlink(t.process.Self, path); err != nil {
				return fmt.Errorf("install: %w", err)
			}
			cmd.Println(path)
			return nil
		},
	}
}
