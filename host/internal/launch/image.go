package launch

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/khelp/khelp/host/internal/filesum"
	"github.com/khelp/khelp/shared"
)

// image is the file that is run. Its sum is taken before the start if one is demanded, and beside the start if not, which costs a
// start no time on more than one processor.
type image struct {
	path   string
	file   *os.File
	cancel context.CancelFunc
	hashed chan struct{} // closed when digest and err are set
	digest string
	err    error
}

// openImage opens path and checks that it can be a program at all. What only the kernel can judge, such as the architecture, is left
// to exec. The caller closes the image.
func openImage(ctx context.Context, path, want string) (*image, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, failf(ReasonMissing, shared.ErrNotExist, "%s does not exist", path)
	case err != nil:
		return nil, fail(ReasonExec, wrapErrno(err, "cannot look at the helper's file"))
	case info.IsDir():
		return nil, failf(ReasonDirectory, shared.ErrNoExec, "%s is a directory, not a program", path)
	case !info.Mode().IsRegular():
		return nil, failf(ReasonDirectory, shared.ErrNoExec, "%s is not a regular file (%v)", path, info.Mode())
	case !mayExecute(info.Mode()):
		return nil, failf(ReasonMode, shared.ErrPermission, "%s is not executable (mode %v); try chmod +x", path, info.Mode())
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fail(ReasonMode, wrapErrno(err, "cannot read the helper's file to take its sum"))
	}
	ctx, cancel := context.WithCancel(ctx)
	img := &image{path: path, file: file, cancel: cancel, hashed: make(chan struct{})}
	go img.hash(ctx, want != "")
	if want == "" {
		return img, nil
	}
	got, err := img.sum(ctx)
	if err == nil && got != want {
		err = failf(ReasonChecksum, shared.ErrPermission, "%s has sha256 %s, but %s is demanded", path, got, want)
	}
	if err != nil {
		img.close()
		return nil, err
	}
	return img, nil
}

// Sum returns the hex sum of a program's file as it is now: what a helper that is started from it will have.
func Sum(path string) (string, error) {
	img, err := openImage(context.Background(), path, "")
	if err != nil {
		return "", err
	}
	defer img.close()
	return img.sum(context.Background())
}

// hash takes the sum and ends early when ctx does. A sum that is demanded is that of what is read now.
func (img *image) hash(ctx context.Context, demanded bool) {
	defer close(img.hashed)
	if demanded {
		img.digest, img.err = filesum.Read(ctx, img.file)
	} else {
		img.digest, img.err = filesum.Of(ctx, img.file)
	}
	if img.err != nil && ctx.Err() == nil {
		img.err = fail(ReasonExec, wrapErrno(img.err, "taking the sum of the helper's file"))
	}
}

// sum waits for the sum.
func (img *image) sum(ctx context.Context) (string, error) {
	select {
	case <-img.hashed:
		return img.digest, img.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// close ends the hashing and closes the file.
func (img *image) close() {
	img.cancel()
	<-img.hashed
	_ = img.file.Close()
}
