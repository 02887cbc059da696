package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gitlab-runner-tart-driver/internal/tartsim/tarthome"
)

// Publish copies a VM's directory into the registry, points the name's tag at it and returns the digest. change may be nil; it edits the
// repository before that is saved.
func (r Registry) Publish(vmDir string, name tarthome.RemoteName, size int64, change func(*Repository)) (string, error) {
	sum := sha256.Sum256([]byte(name.String() + tarthome.UUID()))
	digest := "sha256:" + hex.EncodeToString(sum[:])
	template := filepath.Join(templatesName, hex.EncodeToString(sum[:8]))
	target := filepath.Join(r.Dir, template)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return "", fmt.Errorf("publish %s: %w", name, err)
	}
	if err := tarthome.CopyVM(vmDir, target); err != nil {
		return "", fmt.Errorf("publish %s: %w", name, err)
	}
	// A saved state is never published.
	if err := os.Remove(filepath.Join(target, tarthome.StateName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("publish %s: %w", name, err)
	}
	repository, _, err := r.Find(name)
	if err != nil {
		return "", err
	}
	if repository == nil {
		repository = &Repository{Host: name.Host, Namespace: name.Namespace, Tags: map[string]string{}, Images: map[string]Image{}}
		repository.path = filepath.Join(r.Dir, fileName(name))
	}
	if size <= 0 {
		size = defaultSize
	}
	repository.Images[digest] = Image{Template: template, Size: size}
	repository.Tags[name.Tag] = digest
	if change != nil {
		change(repository)
	}
	return digest, repository.Save()
}

// defaultSize is what a pull says it downloads unless told otherwise.
const defaultSize = 16_000_000_000

func fileName(name tarthome.RemoteName) string {
	return strings.NewReplacer("/", "+", ":", "%3A").Replace(name.Host+"/"+name.Namespace) + ".json"
}

// Save writes the repository's file.
func (r *Repository) Save() error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("save repository: %w", err)
	}
	temp := r.path + ".new"
	if err := os.WriteFile(temp, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("save repository: %w", err)
	}
	return os.Rename(temp, r.path)
}

// Template is the directory of an image.
func (r Registry) Template(image Image) string {
	if filepath.IsAbs(image.Template) {
		return image.Template
	}
	return filepath.Join(r.Dir, image.Template)
}
