package tart

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrNotCached means that an image is not in tart's cache.
var ErrNotCached = errors.New("the image is not cached")

// Gigabytes is a size in 10⁹ bytes. Whatever is no number counts as none: a size is not worth failing for.
type Gigabytes float64

// UnmarshalJSON takes a number, or a text with one in front, such as "17.234" or "50 GB": tart has had both in places.
func (g *Gigabytes) UnmarshalJSON(raw []byte) error {
	text := strings.Trim(string(raw), `"`)
	number, _, _ := strings.Cut(text, " ")
	*g = 0
	if n, err := strconv.ParseFloat(number, 64); err == nil && n > 0 && n < 1e9 {
		*g = Gigabytes(n)
	}
	return nil
}

// Time is a time that may be missing or not be understood, and is the zero time then.
type Time struct{ time.Time }

// UnmarshalJSON takes ISO 8601.
func (t *Time) UnmarshalJSON(raw []byte) error {
	*t = Time{}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		t.Time = at
	}
	return nil
}

// Home is TART_HOME, where VMs and cached images are.
func (c *Client) Home() string { return c.home }

// Cached finds an image, HOST/PATH:TAG or HOST/PATH@DIGEST, in tart's cache, at the price of two file look-ups instead of a process. digest is in
// the form sha256:HEX, and empty where the cache is not laid out as expected. A miss is certain only if the same image was found here before.
// https://github.com/openai/tart/blob/main/Sources/tart/VMStorageOCI.swift
func (c *Client) Cached(reference string) (digest string, ok bool) {
	dir, isDigest := c.cachePath(reference)
	if dir == "" {
		return "", false
	}
	if _, err := os.Stat(filepath.Join(dir, "config.json")); err != nil {
		return "", false
	}
	if isDigest {
		return filepath.Base(dir), true
	}
	target, err := os.Readlink(dir) // a tag is a link to its digest
	if err != nil || !strings.HasPrefix(filepath.Base(target), "sha256:") {
		return "", true
	}
	return filepath.Base(target), true
}

// PartlyPulled tells whether a pull of HOST/PATH:TAG or HOST/PATH@DIGEST is under way, or was broken off. The next pull goes on where that stopped, unless
// another command than pull or clone comes first: that deletes what was downloaded.
// https://github.com/openai/tart/blob/main/Sources/tart/VMDirectory.swift (temporaryDeterministic)
func (c *Client) PartlyPulled(reference string) bool {
	sum := md5.Sum([]byte(reference))
	_, err := os.Lstat(filepath.Join(c.home, "tmp", hex.EncodeToString(sum[:])))
	return err == nil
}

// cachePath is where tart keeps an image, or empty for what is no image's name.
func (c *Client) cachePath(reference string) (dir string, isDigest bool) {
	host, rest, ok := strings.Cut(reference, "/")
	if !ok {
		return "", false
	}
	name, last, isDigest := strings.Cut(rest, "@")
	if !isDigest {
		at := strings.LastIndex(rest, ":")
		if at < 0 {
			return "", false
		}
		name, last = rest[:at], rest[at+1:]
	}
	below := strings.ReplaceAll(host, ":", "%3A") + "/" + name + "/" + last
	if path.Clean(below) != below || strings.HasPrefix(below, "/") || strings.Contains(below, "..") || last == "." {
		return "", false
	}
	return filepath.Join(c.home, "cache", "OCIs", filepath.FromSlash(below)), isDigest
}

// AutoPruning returns a client that lets tart delete cached images by itself when the disk is full, which the client itself does not.
func (c *Client) AutoPruning() *Client {
	d := *c
	d.env = slices.DeleteFunc(slices.Clone(c.env), func(kv string) bool { return strings.HasPrefix(kv, "TART_NO_AUTO_PRUNE=") })
	return &d
}

// DeleteImage deletes a tag, or an image by its digest, from the cache, and is content when there is none. With its last tag tart deletes the
// image, too, unless it was also pulled by its digest. It never deletes a local VM.
func (c *Client) DeleteImage(ctx context.Context, reference string) error {
	if !strings.Contains(reference, "/") || strings.HasPrefix(reference, "-") {
		return fmt.Errorf("%q is not an image of a registry", reference)
	}
	if err := c.Delete(ctx, reference); KindOf(err) != KindNoSuchVM {
		return err
	}
	return nil
}
