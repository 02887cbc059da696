package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gitlab-runner-tart-driver/internal/tartsim/simconf"
)

func (t *tool) configCommand() *cobra.Command {
	return &cobra.Command{
		Use: "config [KEY=VALUE...]", Short: "Show or change the host-wide configuration, tartsim.json",
		Long: "Without arguments the configuration is shown. A value is JSON or, where it isn't, a string; an empty one removes the key:\n" +
			"  tartsim config version=2.20.0 isolation=none ssh_port=2222",
		RunE: func(cmd *cobra.Command, args []string) error {
			home, err := t.home()
			if err != nil {
				return err
			}
			config, err := simconf.LoadConfig(home.Dir)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return printJSON(cmd, config)
			}
			if config, err = change(config, args); err != nil {
				return err
			}
			if err := config.Validate(); err != nil {
				return err
			}
			return config.Save(home.Dir)
		},
	}
}

// change sets keys as they are called in the file.
func change(config simconf.Config, args []string) (simconf.Config, error) {
	data, err := json.Marshal(config)
	if err != nil {
		return config, err
	}
	keys := map[string]any{}
	if err := json.Unmarshal(data, &keys); err != nil {
		return config, err
	}
	for _, arg := range args {
		key, text, found := strings.Cut(arg, "=")
		if !found {
			return config, fmt.Errorf("config: %q: want KEY=VALUE", arg)
		}
		var value any
		if json.Unmarshal([]byte(text), &value) != nil {
			value = text
		}
		if keys[key] = value; text == "" {
			delete(keys, key)
		}
	}
	if data, err = json.Marshal(keys); err != nil {
		return config, err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var changed simconf.Config
	if err := decoder.Decode(&changed); err != nil {
		return config, fmt.Errorf("config: %w", err)
	}
	return changed, nil
}
