package host

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// What the state directory knows of images, below images/. KEY is made from the image's name:
//
//	KEY.json   when the image was last used
//	KEY.use    locked by all who need the image (shared), or by the one who removes it
//	KEY.pull   locked by whoever pulls it; holds who that is
//	prune      locked by whoever removes images

func (s *State) imagesDir() string { return filepath.Join(s.dir, "images") }

func (s *State) imageFile(image, suffix string) string {
	sum := sha256.Sum256([]byte(image))
	return filepath.Join(s.imagesDir(), short(sum[:], 26)+suffix)
}

func (s *State) makeImagesDir() error {
	if err := os.MkdirAll(s.imagesDir(), 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrStateDir, err)
	}
	return nil
}

// HoldImage keeps an image from being removed by TakeImage's holders until the lock is released. Any number of processes can hold the same
// image. It waits while the image is being removed.
func (s *State) HoldImage(ctx context.Context, image string) (*Lock, error) {
	if err := s.makeImagesDir(); err != nil {
		return nil, err
	}
	var lock *Lock
	err := poll(ctx, func() (bool, error) {
		var err error
		lock, err = trySharedLock(s.imageFile(image, ".use"))
		if errors.Is(err, errBusy) || errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("hold image %s: %w", image, err)
	}
	return lock, nil
}

// TakeImage takes an image, by all its names, from everybody else in order to remove it. ok is false where somebody holds it.
func (s *State) TakeImage(names ...string) (release func(), ok bool, err error) {
	if err := s.makeImagesDir(); err != nil {
		return nil, false, err
	}
	var locks []*Lock
	release = func() {
		for _, l := range locks {
			l.Release()
		}
	}
	for _, name := range names {
		lock, err := tryLock(s.imageFile(name, ".use"), true)
		if err != nil {
			release()
			if errors.Is(err, errBusy) || errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return nil, false, err
		}
		locks = append(locks, lock)
	}
	return release, true, nil
}

// ImageHeld tells whether somebody holds an image at this moment.
func (s *State) ImageHeld(image string) bool { return lockHeld(s.imageFile(image, ".use")) }

// TurnToPull waits until nobody else on this host pulls an image, and keeps others from it until the lock is released. waiting is called
// once, with whoever pulls it, if there is anything to wait for.
func (s *State) TurnToPull(ctx context.Context, image string, who Holder, waiting func(Holder)) (*Lock, error) {
	path := s.imageFile(image, ".pull")
	lock, err := s.queueFor(ctx, path, func() { waiting(readHolder(path)) })
	if err != nil {
		return nil, fmt.Errorf("wait for another pull of %s: %w", image, err)
	}
	if err := writeHolder(lock.f, who); err != nil {
		lock.Release()
		return nil, fmt.Errorf("pull %s: %w", image, err)
	}
	return lock, nil
}

// TurnToPrune waits until nobody else removes images, and keeps others from it until the lock is released.
func (s *State) TurnToPrune(ctx context.Context) (*Lock, error) {
	lock, err := s.queueFor(ctx, filepath.Join(s.imagesDir(), "prune"), func() {})
	if err != nil {
		return nil, fmt.Errorf("wait for another prune: %w", err)
	}
	return lock, nil
}

// queueFor waits for a lock in the images' directory; busy is called once if that takes more than one try.
func (s *State) queueFor(ctx context.Context, path string, busy func()) (*Lock, error) {
	if err := s.makeImagesDir(); err != nil {
		return nil, err
	}
	return awaitLock(ctx, path, busy)
}

// imageUse is the content of KEY.json.
type imageUse struct {
	Image string    `json:"image"`
	Used  time.Time `json:"used"`
}

// NoteImageUse notes that an image is used now.
func (s *State) NoteImageUse(image string, now time.Time) error {
	err := s.makeImagesDir()
	if err == nil {
		var raw []byte
		if raw, err = json.Marshal(imageUse{Image: image, Used: now.UTC()}); err == nil {
			err = writeFileAtomic(s.imageFile(image, ".json"), append(raw, '\n'))
		}
	}
	if err != nil {
		return fmt.Errorf("note the use of image %s: %w", image, err)
	}
	return nil
}

// ImageUses are the times at which images were last used, by name. Images that were never used here are not in it.
func (s *State) ImageUses() map[string]time.Time {
	uses := map[string]time.Time{}
	files, err := os.ReadDir(s.imagesDir())
	if err != nil {
		return uses
	}
	for _, f := range files {
		path := filepath.Join(s.imagesDir(), f.Name())
		if raw, err := os.ReadFile(path); err == nil && strings.HasSuffix(path, ".json") {
			if use, ok := parseImageUse(raw); ok && path == s.imageFile(use.Image, ".json") {
				uses[use.Image] = use.Used
			}
		}
	}
	return uses
}

func parseImageUse(raw []byte) (imageUse, bool) {
	var use imageUse
	err := json.Unmarshal(raw, &use)
	return use, err == nil && use.Image != "" && !use.Used.IsZero()
}

// ForgetImage removes what is known of an image that is gone. The caller has taken the image; who waits for its locks makes new files.
func (s *State) ForgetImage(image string) {
	os.Remove(s.imageFile(image, ".json"))
	os.Remove(s.imageFile(image, ".use"))
	if lock, err := tryLock(s.imageFile(image, ".pull"), false); err == nil {
		os.Remove(s.imageFile(image, ".pull"))
		lock.Release()
	}
}
