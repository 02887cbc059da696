package tartcmd

import (
	"path/filepath"
	"strings"

	"gitlab-runner-tart-driver/internal/tartsim/guest"
	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// splitFields splits as Swift does: empty fields vanish.
func splitFields(text, separator string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(separator, r) })
}

// parseDir parses one --dir as Tart does: options are recognised in the last field only, and a path with a colon is taken for a name and a path.
func parseDir(text, userHome, workDir string) (guest.Share, error) {
	fields := splitFields(text, ":")
	if len(fields) == 0 {
		// Tart crashes on this one.
		return guest.Share{}, tarthome.System("invalid --dir %q", text)
	}
	share := guest.Share{Tag: guest.AutomountTag}
	found := false
	for _, option := range splitFields(fields[len(fields)-1], ",") {
		if option == "ro" {
			share.ReadOnly, found = true, true
		} else if tag, ok := strings.CutPrefix(option, "tag="); ok {
			share.Tag, found = tag, true
		}
	}
	if found {
		fields = fields[:len(fields)-1]
	}
	rest := strings.Join(fields, ":")
	if strings.HasPrefix(rest, "http:") || strings.HasPrefix(rest, "https:") {
		share.Path = rest
		return share, nil
	}
	path := rest
	if name, after, named := strings.Cut(rest, ":"); named {
		share.Name, path = name, after
	}
	if path == "~" || strings.HasPrefix(path, "~/") {
		path = userHome + path[1:]
	}
	if !filepath.IsAbs(path) && !strings.HasPrefix(path, "https:") {
		path = filepath.Join(workDir, path)
	}
	share.Path = path
	return share, nil
}

// maxTag is the longest tag Virtualization.framework accepts, in bytes.
const maxTag = 36

// parseDirs parses all --dir options and checks them against each other.
func parseDirs(texts []string, userHome, workDir string) ([]guest.Share, error) {
	byTag := map[string][]guest.Share{}
	var order []string
	for _, text := range texts {
		share, err := parseDir(text, userHome, workDir)
		if err != nil {
			return nil, err
		}
		if byTag[share.Tag] == nil {
			order = append(order, share.Tag)
		}
		byTag[share.Tag] = append(byTag[share.Tag], share)
	}
	var all []guest.Share
	for _, tag := range order {
		if tag == "" || len(tag) > maxTag {
			return nil, tarthome.System("Error Domain=VZErrorDomain Code=2 \"Invalid virtual machine configuration.\" "+
				"UserInfo={NSLocalizedFailure=Invalid virtual machine configuration., NSLocalizedFailureReason=The tag %q is not valid.}", tag)
		}
		shares, err := groupShares(byTag[tag])
		if err != nil {
			return nil, err
		}
		all = append(all, shares...)
	}
	return all, nil
}

// groupShares checks the shares of one tag: one unnamed share, or any number of named ones, of which the last of a name wins.
func groupShares(shares []guest.Share) ([]guest.Share, error) {
	if len(shares) == 1 && shares[0].Name == "" {
		return shares, nil
	}
	var kept []guest.Share
	for i, share := range shares {
		if share.Name == "" {
			return nil, tarthome.Invalid("invalid --dir syntax: for multiple directory shares each one of them should be named")
		}
		last := true
		for _, later := range shares[i+1:] {
			last = last && later.Name != share.Name
		}
		if last {
			kept = append(kept, share)
		}
	}
	return kept, nil
}
